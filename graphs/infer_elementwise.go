package graphs

import "fmt"

// elementwiseShapes: ops whose output has the shape of an input or of its
// inputs' broadcast, normalisations included.
func elementwiseShapes() map[string]func(*inferer) error {
	elementwise := map[string]func(*inferer) error{}
	for _, op := range []string{
		"Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos", "Cosh",
		"Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg",
		"Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
		"Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
		"Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "MeanVarianceNormalization", "Trilu", "CumSum",
		"InstanceNormalization", "GroupNormalization", "LRN",
	} {
		elementwise[op] = sameAsFirst
	}
	for _, op := range []string{"Add", "Sub", "Mul", "Div", "Mod", "Pow", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "PRelu"} {
		elementwise[op] = inferBinary
	}
	for _, op := range []string{"Max", "Min", "Mean", "Sum"} {
		elementwise[op] = func(c *inferer) error { return c.broadcastTo(0) }
	}
	for _, op := range []string{"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"} {
		elementwise[op] = func(c *inferer) error {
			if err := inferBinary(c); err != nil {
				return err
			}
			c.n.Outputs[0].Type = Bool
			return nil
		}
	}
	for _, op := range []string{"IsNaN", "IsInf"} {
		elementwise[op] = func(c *inferer) error {
			if err := sameAsFirst(c); err != nil {
				return err
			}
			c.n.Outputs[0].Type = Bool
			return nil
		}
	}
	elementwise["Where"] = inferWhere
	elementwise["Cast"] = inferCast
	elementwise["CastLike"] = inferCastLike
	elementwise["Dropout"] = inferDropout
	elementwise["BatchNormalization"] = inferBatchNorm
	elementwise["LayerNormalization"] = inferLayerNorm
	elementwise["RMSNormalization"] = sameAsFirst
	return elementwise
}

// sameAsFirst: the output has the type and shape of the first input.
func sameAsFirst(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	for i := 1; i < len(c.n.Inputs); i++ {
		if v := c.n.Inputs[i]; v != nil && v.Type.IsFloat() && x.Type.IsFloat() && v.Type != x.Type {
			return fmt.Errorf("inputs %s and %s have different types", x, v)
		}
	}
	c.set(0, x.Type, x.Shape)
	return nil
}

// inferBinary: two operands that broadcast.
func inferBinary(c *inferer) error {
	if len(c.n.Inputs) != 2 {
		return fmt.Errorf("wanted two operands, got %d", len(c.n.Inputs))
	}
	return c.broadcastTo(0)
}

// broadcastTo: all inputs broadcast; the output has the type of input t.
func (c *inferer) broadcastTo(t int) error {
	x, err := c.in(t)
	if err != nil {
		return err
	}
	var shapes []Shape
	for _, v := range c.n.Inputs {
		if v == nil {
			return fmt.Errorf("an operand is missing")
		}
		if v.Type != x.Type && v.Type != Undefined && x.Type != Undefined && c.n.Op != "Pow" && c.n.Op != "BitShift" {
			return fmt.Errorf("operands %s and %s have different types", x, v)
		}
		shapes = append(shapes, v.Shape)
	}
	s, err := Broadcast(shapes...)
	if err != nil {
		return err
	}
	c.set(0, x.Type, s)
	return nil
}

func inferWhere(c *inferer) error {
	cond, err := c.in(0)
	if err != nil {
		return err
	}
	x, err := c.in(1)
	if err != nil {
		return err
	}
	y, err := c.in(2)
	if err != nil {
		return err
	}
	if cond.Type != Bool && cond.Type != Undefined {
		return fmt.Errorf("condition %s is not bool", cond)
	}
	if x.Type != y.Type {
		return fmt.Errorf("branches %s and %s have different types", x, y)
	}
	s, err := Broadcast(cond.Shape, x.Shape, y.Shape)
	c.set(0, x.Type, s)
	return err
}

func inferCast(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	to := DType(c.n.Int("to", 0))
	if to == Undefined {
		return fmt.Errorf("attribute to is missing")
	}
	c.set(0, to, x.Shape)
	return nil
}

func inferCastLike(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	y, err := c.in(1)
	if err != nil {
		return err
	}
	c.set(0, y.Type, x.Shape)
	return nil
}

func inferDropout(c *inferer) error {
	if err := sameAsFirst(c); err != nil {
		return err
	}
	c.set(1, Bool, c.n.Inputs[0].Shape)
	return nil
}

func inferBatchNorm(c *inferer) error {
	if err := sameAsFirst(c); err != nil {
		return err
	}
	for i := 1; i < len(c.n.Outputs); i++ {
		if v := c.n.In(min(i+2, 4)); v != nil {
			c.set(i, v.Type, v.Shape)
		}
	}
	return nil
}

// inferLayerNorm: outputs 1 and 2 (mean and inverse deviation) keep the axes
// before axis and have size 1 after it.
func inferLayerNorm(c *inferer) error {
	if err := sameAsFirst(c); err != nil {
		return err
	}
	x := c.n.Inputs[0]
	if x.Shape == nil || len(c.n.Outputs) == 1 {
		return nil
	}
	axis, err := NormAxis(c.n.Int("axis", -1), len(x.Shape))
	if err != nil {
		return err
	}
	s := append(Shape{}, x.Shape...)
	for i := axis; i < len(s); i++ {
		s[i] = D(1)
	}
	for i := 1; i < len(c.n.Outputs); i++ {
		c.set(i, Float32, s)
	}
	return nil
}
