"""Small files as PyTorch writes them, which TestRead reads: python make.py, in this folder."""
import torch

base = torch.arange(24, dtype=torch.float32)
state = {
    "plain": base.reshape(2, 3, 4),
    "turned": base.reshape(4, 6).t(),
    "part": base[5:17:2],
    "double": torch.tensor([1 / 3, -2.0], dtype=torch.float64),
    "half": torch.tensor([0.1, -65504.0, 6e-8]).half(),
    "bfloat16": torch.tensor([0.1, 3e38]).bfloat16(),
    "steps": torch.tensor(12345678901),
    "none": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(torch.tensor([7.0, 8.0])),
}
torch.save(state, "zip.pth")
torch.save(state, "plain.pth", _use_new_zipfile_serialization=False)
torch.save({"epoch": 3, "lr": 0.5, "done": False, "history": [1, 2], "model": torch.nn.Linear(2, 1).state_dict()}, "nested.pth")
torch.save(torch.nn.Linear(2, 1), "module.pth")
