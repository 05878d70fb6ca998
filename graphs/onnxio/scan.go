package onnxio

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A scanner walks wire bytes before they are parsed. It finds damage and says
// where it is, and bounds the memory that parsing takes: empty messages of two
// bytes become structures of hundreds.
type scanner struct {
	path   []string
	budget int
}

// The memory for messages is bounded by memoryFloor + memoryFactor·len(file);
// real graphs, dense with small attributes, stay below 25·len(file).
const (
	memoryFloor  = 64 << 20
	memoryFactor = 32
)

func scan(b []byte, d protoreflect.MessageDescriptor) error {
	s := &scanner{budget: memoryFloor + memoryFactor*len(b)}
	return s.message(b, d, 0)
}

func (s *scanner) fail(off int, format string, args ...any) error {
	where := ""
	if len(s.path) > 0 {
		at := s.path
		if len(at) > 8 {
			at = append(append([]string{}, at[:4]...), append([]string{"…"}, at[len(at)-3:]...)...)
		}
		where = " (" + strings.Join(at, ".") + ")"
	}
	return fmt.Errorf("byte %d%s: %s", off, where, fmt.Sprintf(format, args...))
}

func (s *scanner) message(b []byte, d protoreflect.MessageDescriptor, base int) error {
	fields := d.Fields()
	s.budget -= 40 + 16*fields.Len()
	if s.budget < 0 {
		return s.fail(base, "too many parts for the size of the file")
	}
	// A subgraph is three messages below the one that holds it.
	if len(s.path) > 3*maxDepth+16 {
		return s.fail(base, "nested too deeply")
	}
	for off := 0; off < len(b); {
		num, typ, n := protowire.ConsumeTag(b[off:])
		if n < 0 {
			return s.fail(base+off, "not a field of a model (damaged or no .onnx file)")
		}
		m := protowire.ConsumeFieldValue(num, typ, b[off+n:])
		f := fields.ByNumber(num)
		if m < 0 {
			name := fmt.Sprint("field ", num)
			if f != nil {
				name = string(f.Name())
			}
			return s.fail(base+off, "%s is cut short or damaged", name)
		}
		if f != nil && f.Kind() == protoreflect.MessageKind && typ == protowire.BytesType {
			val, _ := protowire.ConsumeBytes(b[off+n:])
			s.path = append(s.path, string(f.Name()))
			if err := s.message(val, f.Message(), base+off+n+m-len(val)); err != nil {
				return err
			}
			s.path = s.path[:len(s.path)-1]
		}
		off += n + m
	}
	return nil
}
