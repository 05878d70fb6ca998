package runtime

// A Keeper is a Program that can keep inputs where it computes, as in the memory of a graphics
// processor, so that weights are not sent there with every call.
type Keeper interface {
	// Keep names the inputs that are the same from call to call until Renew is called, and
	// takes back what was named before. They must be the same tensors all the while.
	Keep(inputs ...int)

	// Renew says that what kept inputs hold has changed.
	Renew()
}

// Keep names inputs to a program that can keep them; of any other all are read in every call.
func Keep(p Program, inputs ...int) {
	if k, ok := p.(Keeper); ok {
		k.Keep(inputs...)
	}
}

// Renew says that what a program keeps has changed.
func Renew(p Program) {
	if k, ok := p.(Keeper); ok {
		k.Renew()
	}
}
