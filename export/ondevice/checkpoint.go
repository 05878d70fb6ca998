package ondevice

import (
	"fmt"
	"math"

	flatbuffers "github.com/google/flatbuffers/go"

	"ebmrun/graphs"
)

// A Checkpoint is what ONNX Runtime keeps of a model that learns: weights, and
// the optimizer's state once it has made a step. It is a FlatBuffers file with the
// identifier ODTC, as onnxruntime/core/flatbuffers/schema/ort_training_checkpoint.fbs
// describes.
type Checkpoint struct {
	Version int32
	Trained []Parameter
	Frozen  []Parameter
	Groups  []Group

	Ints    map[string]int64
	Floats  map[string]float32
	Strings map[string]string
}

// A Parameter is a float32 tensor with a name.
type Parameter struct {
	Name string
	*graphs.Tensor
}

// A Group is the state of an optimizer: the steps made, and the moments of each
// trained parameter, named momentum0 and momentum1 by AdamW.
type Group struct {
	Name    string
	Step    int64
	Rate    float32
	Moments map[string][]Parameter
}

const (
	identifier        = "ODTC"
	checkpointVersion = 2 // of ONNX Runtime 1.19; 1 has the same layout
)

// Encode returns the file's bytes. Optimizer state is not written: a new
// optimizer begins at zero.
func (c *Checkpoint) Encode() []byte {
	b := flatbuffers.NewBuilder(1024)
	vector := func(ps []Parameter) flatbuffers.UOffsetT {
		var at []flatbuffers.UOffsetT
		for _, p := range ps {
			at = append(at, tensor(b, p))
		}
		return offsets(b, at)
	}
	frozen, trained := vector(c.Frozen), vector(c.Trained)
	b.StartObject(4)
	b.PrependUOffsetTSlot(0, trained, 0)
	b.PrependUOffsetTSlot(1, frozen, 0)
	module := b.EndObject()
	b.StartObject(4)
	b.PrependInt32Slot(0, checkpointVersion, 0)
	b.PrependUOffsetTSlot(1, module, 0)
	b.FinishWithFileIdentifier(b.EndObject(), []byte(identifier))
	return b.FinishedBytes()
}

func offsets(b *flatbuffers.Builder, at []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(flatbuffers.SizeUOffsetT, len(at), flatbuffers.SizeUOffsetT)
	for i := len(at) - 1; i >= 0; i-- {
		b.PrependUOffsetT(at[i])
	}
	return b.EndVector(len(at))
}

func tensor(b *flatbuffers.Builder, p Parameter) flatbuffers.UOffsetT {
	values := p.F32()
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		flatbuffers.WriteFloat32(raw[4*i:], v)
	}
	// Weights are read in place: their bytes begin where a multiple of 8 does.
	b.StartVector(1, len(raw), 8)
	for i := len(raw) - 1; i >= 0; i-- {
		b.PrependByte(raw[i])
	}
	data := b.EndVector(len(raw))
	b.StartVector(8, len(p.Dims), 8)
	for i := len(p.Dims) - 1; i >= 0; i-- {
		b.PrependInt64(int64(p.Dims[i]))
	}
	dims := b.EndVector(len(p.Dims))
	name := b.CreateString(p.Name)
	b.StartObject(6)
	b.PrependUOffsetTSlot(0, name, 0)
	b.PrependUOffsetTSlot(2, dims, 0)
	b.PrependInt32Slot(3, int32(graphs.Float32), 0)
	b.PrependUOffsetTSlot(4, data, 0)
	return b.EndObject()
}

// DecodeCheckpoint reads a file's bytes.
func DecodeCheckpoint(data []byte) (c *Checkpoint, err error) {
	if len(data) < 8 || string(data[4:8]) != identifier {
		return nil, fmt.Errorf("not a checkpoint of ONNX Runtime's on-device training: wanted the identifier %s", identifier)
	}
	// FlatBuffers reads wherever offsets lead; what leads out of the file panics.
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fmt.Errorf("damaged checkpoint: %v", r)
		}
	}()
	root := table{flatbuffers.Table{Bytes: data, Pos: flatbuffers.GetUOffsetT(data)}}
	c = &Checkpoint{Version: root.int32(0), Ints: map[string]int64{}, Floats: map[string]float32{}, Strings: map[string]string{}}
	if c.Version != 1 && c.Version != checkpointVersion {
		return nil, fmt.Errorf("checkpoint of version %d: wanted 1 or %d", c.Version, checkpointVersion)
	}
	module, ok := root.table(1)
	if !ok {
		return nil, fmt.Errorf("a checkpoint without weights")
	}
	if module.bool(3) {
		return nil, fmt.Errorf("a checkpoint with its weights in another file")
	}
	c.Trained, c.Frozen = module.tensors(0), module.tensors(1)
	for _, g := range root.tables(2) {
		group := Group{Name: g.string(0), Step: g.int64(1), Rate: g.float32(2), Moments: map[string][]Parameter{}}
		for _, s := range g.tables(3) {
			group.Moments[s.string(0)] = s.tensors(1)
		}
		c.Groups = append(c.Groups, group)
	}
	if bag, ok := root.table(3); ok {
		for _, p := range bag.tables(0) {
			c.Ints[p.string(0)] = p.int64(1)
		}
		for _, p := range bag.tables(1) {
			c.Floats[p.string(0)] = p.float32(1)
		}
		for _, p := range bag.tables(2) {
			c.Strings[p.string(0)] = p.string(1)
		}
	}
	return c, nil
}

// A table reads the fields of a FlatBuffers table by their place in the schema.
type table struct{ flatbuffers.Table }

// field is where a field lies, 0 if it is not there.
func (t table) field(i int) flatbuffers.UOffsetT {
	o := flatbuffers.UOffsetT(t.Offset(flatbuffers.VOffsetT(4 + 2*i)))
	if o == 0 {
		return 0
	}
	return o + t.Pos
}

func (t table) int32(i int) int32 {
	if o := t.field(i); o != 0 {
		return t.GetInt32(o)
	}
	return 0
}

func (t table) int64(i int) int64 {
	if o := t.field(i); o != 0 {
		return t.GetInt64(o)
	}
	return 0
}

func (t table) float32(i int) float32 {
	if o := t.field(i); o != 0 {
		return t.GetFloat32(o)
	}
	return 0
}

func (t table) bool(i int) bool {
	o := t.field(i)
	return o != 0 && t.GetBool(o)
}

func (t table) string(i int) string {
	if o := t.field(i); o != 0 {
		return string(t.ByteVector(o))
	}
	return ""
}

func (t table) table(i int) (table, bool) {
	o := t.field(i)
	if o == 0 {
		return table{}, false
	}
	return table{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(o)}}, true
}

// vector is where the elements of a vector field begin, and how many there are.
func (t table) vector(i, size int) (at flatbuffers.UOffsetT, n int) {
	o := t.field(i)
	if o == 0 {
		return 0, 0
	}
	o -= t.Pos
	at, n = t.Vector(o), t.VectorLen(o)
	if n < 0 || n > (len(t.Bytes)-int(at))/size {
		panic(fmt.Sprintf("a vector of %d elements in a file of %d bytes", n, len(t.Bytes)))
	}
	return at, n
}

func (t table) tables(i int) (all []table) {
	at, n := t.vector(i, flatbuffers.SizeUOffsetT)
	for k := range n {
		all = append(all, table{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(at + flatbuffers.UOffsetT(k*flatbuffers.SizeUOffsetT))}})
	}
	return all
}

func (t table) tensors(i int) (all []Parameter) {
	for _, p := range t.tables(i) {
		name := p.string(0)
		if d := graphs.DType(p.int32(3)); d != graphs.Float32 {
			panic(fmt.Sprintf("tensor %q of type %v: wanted float32", name, d))
		}
		at, rank := p.vector(2, 8)
		size, dims := int64(1), make([]int, rank)
		for k := range rank {
			d := p.GetInt64(at + flatbuffers.UOffsetT(8*k))
			if d < 0 || d > math.MaxInt32 || size*d > int64(len(t.Bytes)) {
				panic(fmt.Sprintf("tensor %q has %d elements along axis %d in a file of %d bytes", name, d, k, len(t.Bytes)))
			}
			size, dims[k] = size*d, int(d)
		}
		from, bytes := p.vector(4, 1)
		if int64(bytes) != 4*size {
			panic(fmt.Sprintf("tensor %q: %d bytes for the dimensions %v", name, bytes, dims))
		}
		x := graphs.NewTensor(graphs.Float32, dims...)
		for k := range x.F32() {
			x.F32()[k] = p.GetFloat32(from + flatbuffers.UOffsetT(4*k))
		}
		all = append(all, Parameter{name, x})
	}
	return all
}
