package onnxio

import (
	"encoding/binary"
	"io"
	"reflect"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A part of a file: bytes, and after them the elements of a tensor, if any.
type part struct {
	bytes  []byte
	tensor *graphs.Tensor
}

// The fields that large parts of a file lie in.
const (
	modelGraph       = 7
	graphInitializer = 5
	tensorRaw        = 9
)

// split marshals a model whose initializers lack the elements that later holds.
// The parts in a row are the bytes that [Encode] gives: fields in the order of
// their numbers, those that are not known last. The messages are used up.
func split(p *onnxpb.ModelProto, later map[*onnxpb.TensorProto]*graphs.Tensor) ([]part, error) {
	s := splitter{}
	g := p.Graph
	front := &onnxpb.ModelProto{
		IrVersion: p.IrVersion, ProducerName: p.ProducerName, ProducerVersion: p.ProducerVersion,
		Domain: p.Domain, ModelVersion: p.ModelVersion, DocString: p.DocString,
	}
	p.IrVersion, p.ProducerName, p.ProducerVersion, p.Domain, p.ModelVersion, p.DocString, p.Graph = nil, nil, nil, nil, nil, nil, nil
	graphFront := &onnxpb.GraphProto{Node: g.Node, Name: g.Name}
	inits := g.Initializer
	g.Node, g.Name, g.Initializer = nil, nil, nil

	inner := splitter{}
	inner.message(graphFront)
	for _, tp := range inits {
		t := later[tp]
		if t == nil {
			inner.header(graphInitializer, proto.Size(tp))
			inner.message(tp)
			continue
		}
		head := &onnxpb.TensorProto{
			Dims: tp.Dims, DataType: tp.DataType, FloatData: tp.FloatData, Int32Data: tp.Int32Data,
			StringData: tp.StringData, Int64Data: tp.Int64Data, Name: tp.Name,
		}
		tp.Dims, tp.DataType, tp.FloatData, tp.Int32Data, tp.StringData, tp.Int64Data, tp.Name = nil, nil, nil, nil, nil, nil, nil
		n := rawSize(t)
		inner.header(graphInitializer, proto.Size(head)+protowire.SizeTag(tensorRaw)+protowire.SizeBytes(n)+proto.Size(tp))
		inner.message(head)
		inner.header(tensorRaw, n)
		inner.elements(t, n)
		inner.message(tp)
	}
	inner.message(g)

	s.message(front)
	s.header(modelGraph, inner.size)
	s.parts, s.size = append(s.parts, inner.parts...), s.size+inner.size
	s.message(p)
	if inner.err != nil {
		return nil, inner.err
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.parts, fitsFile(s.size)
}

// A splitter appends to a list of parts and keeps the first error.
type splitter struct {
	parts []part
	size  int
	err   error
}

func (s *splitter) bytes(b []byte) {
	s.size += len(b)
	if n := len(s.parts); n > 0 && s.parts[n-1].tensor == nil {
		s.parts[n-1].bytes = append(s.parts[n-1].bytes, b...)
		return
	}
	s.parts = append(s.parts, part{bytes: b})
}

func (s *splitter) message(m proto.Message) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil && s.err == nil {
		s.err = err
	}
	s.bytes(b)
}

func (s *splitter) header(field protowire.Number, size int) {
	s.bytes(protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.BytesType), uint64(size)))
}

func (s *splitter) elements(t *graphs.Tensor, size int) {
	s.parts[len(s.parts)-1].tensor = t
	s.size += size
}

// stream writes parts, tensors piece by piece.
func stream(w io.Writer, parts []part) error {
	for _, p := range parts {
		if _, err := w.Write(p.bytes); err != nil {
			return err
		}
		if p.tensor != nil {
			if err := writeRaw(w, p.tensor); err != nil {
				return err
			}
		}
	}
	return nil
}

// rawSize is the length of a tensor's raw form.
func rawSize(t *graphs.Tensor) int { return (t.Len()*t.Type.Bits() + 7) / 8 }

// writeRaw writes what [graphs.EncodeRaw] gives without having all of it at once.
func writeRaw(w io.Writer, t *graphs.Tensor) error {
	const piece = 1 << 16
	all, buf := reflect.ValueOf(t.Data), []byte(nil)
	for i := 0; i < all.Len(); i += piece {
		var err error
		if buf, err = binary.Append(buf[:0], binary.LittleEndian, all.Slice(i, min(i+piece, all.Len())).Interface()); err == nil {
			_, err = w.Write(buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// minLifted is the size of a tensor that is worth not being copied.
const minLifted = 16 << 10

// lift takes large raw elements out of the initializers of a file that has been
// scanned, since parsing would copy them. They are returned by the number of the
// initializer and share the file's memory. A file that is not mostly such
// elements stays as it is.
func lift(b []byte) (rest []byte, raws map[int][]byte) {
	raws = map[int][]byte{}
	count, lifted := 0, 0
	each(b, modelGraph, func(graph []byte) {
		each(graph, graphInitializer, func(tensor []byte) {
			if raw := largeRaw(tensor); raw != nil {
				raws[count] = raw
				lifted += len(raw)
			}
			count++
		})
	})
	if lifted < len(b)/2 {
		return b, nil
	}
	count = 0
	return replace(b, modelGraph, func(graph []byte) []byte {
		return replace(graph, graphInitializer, func(tensor []byte) []byte {
			count++
			if raws[count-1] == nil {
				return tensor
			}
			return replace(tensor, tensorRaw, func([]byte) []byte { return nil })
		})
	}), raws
}

// largeRaw is the elements of a tensor that has them once, raw and large.
func largeRaw(b []byte) (raw []byte) {
	if len(b) < minLifted {
		return nil
	}
	seen := 0
	fields(b, func(num protowire.Number, value, field []byte) {
		if num == tensorRaw {
			seen++
			raw = value
		}
	})
	if seen != 1 || len(raw) < minLifted {
		return nil
	}
	return raw
}

// each visits the content of a message's fields of one number.
func each(b []byte, number protowire.Number, visit func(value []byte)) {
	fields(b, func(num protowire.Number, value, field []byte) {
		if num == number && value != nil {
			visit(value)
		}
	})
}

// replace changes the content of a message's fields of one number; nil drops one.
func replace(b []byte, number protowire.Number, by func(value []byte) []byte) []byte {
	out := []byte{}
	fields(b, func(num protowire.Number, value, field []byte) {
		if num != number || value == nil {
			out = append(out, field...)
		} else if v := by(value); v != nil {
			out = protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), v)
		}
	})
	return out
}

// fields walks a message: its fields as they are, and the content of those that
// have a length.
func fields(b []byte, visit func(num protowire.Number, value, field []byte)) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		var value []byte
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[n:])
			value = v[:len(v):len(v)]
		}
		visit(num, value, b[:n+m])
		b = b[n+m:]
	}
}
