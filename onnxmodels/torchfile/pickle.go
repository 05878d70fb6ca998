package torchfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// machine runs pickle programs of protocol 2, which PyTorch writes.
type machine struct {
	in       *bufio.Reader
	stack    []any
	memo     map[int]any
	storages map[string]*storage
}

// What programs work with, beside text, integers, booleans and nil.
type (
	dict    struct{ keys, values []any }
	list    struct{ items []any }
	tuple   []any
	global  string  // a class or function, by name
	integer string  // too long for 64 bits, little endian
	float   float64 //
	mark    struct{}
)

// run executes one program and returns what it leaves.
func (m *machine) run() (any, error) {
	m.stack, m.memo = nil, map[int]any{}
	for {
		op, err := m.in.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("the program of the file ends early: %w", err)
		}
		if op == '.' {
			return m.pop()
		}
		do := ops[op]
		if do == nil {
			return nil, fmt.Errorf("not a file of PyTorch's save, or of a protocol other than 2 (instruction %#02x)", op)
		}
		if err := do(m); err != nil {
			return nil, err
		}
	}
}

func (m *machine) push(v any) error {
	m.stack = append(m.stack, v)
	return nil
}

func (m *machine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, errors.New("broken program: its stack is empty")
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v, nil
}

// toMark takes everything above the last mark.
func (m *machine) toMark() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if _, ok := m.stack[i].(mark); ok {
			items := append([]any(nil), m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("broken program: no mark")
}

// bytes reads n bytes, a piece at a time: a length that is a lie costs no memory.
func (m *machine) bytes(n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(m.in, n))
	if err == nil && int64(len(b)) < n {
		err = errors.New("the program of the file ends early")
	}
	return b, err
}

// number reads an unsigned number of n bytes.
func (m *machine) number(n int64) (int64, error) {
	b, err := m.bytes(n)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(append(b, make([]byte, 8-n)...))), nil
}

// ops are the instructions.
var ops = map[byte]func(*machine) error{
	0x80: func(m *machine) error { _, err := m.number(1); return err }, // protocol
	'(':  func(m *machine) error { return m.push(mark{}) },
	'N':  func(m *machine) error { return m.push(nil) },
	0x88: func(m *machine) error { return m.push(true) },
	0x89: func(m *machine) error { return m.push(false) },
	'K':  func(m *machine) error { return m.count(1) },
	'M':  func(m *machine) error { return m.count(2) },
	'J': func(m *machine) error {
		v, err := m.number(4)
		m.push(int64(int32(v)))
		return err
	},
	0x8a: (*machine).long,
	'G': func(m *machine) error {
		b, err := m.bytes(8)
		if err == nil {
			m.push(float(math.Float64frombits(binary.BigEndian.Uint64(b))))
		}
		return err
	},
	'X': func(m *machine) error {
		n, err := m.number(4)
		if err != nil {
			return err
		}
		b, err := m.bytes(n)
		m.push(string(b))
		return err
	},
	'}':  func(m *machine) error { return m.push(&dict{}) },
	']':  func(m *machine) error { return m.push(&list{}) },
	')':  func(m *machine) error { return m.push(tuple{}) },
	't':  func(m *machine) error { return m.tuple(-1) },
	0x85: func(m *machine) error { return m.tuple(1) },
	0x86: func(m *machine) error { return m.tuple(2) },
	0x87: func(m *machine) error { return m.tuple(3) },
	's': func(m *machine) error {
		value, err := m.pop()
		if err != nil {
			return err
		}
		key, err := m.pop()
		if err != nil {
			return err
		}
		return m.set(key, value)
	},
	'u': func(m *machine) error {
		items, err := m.toMark()
		if err != nil {
			return err
		}
		return m.set(items...)
	},
	'a': func(m *machine) error {
		v, err := m.pop()
		if err != nil {
			return err
		}
		return m.append(v)
	},
	'e': func(m *machine) error {
		items, err := m.toMark()
		if err != nil {
			return err
		}
		return m.append(items...)
	},
	'q': func(m *machine) error { return m.put(1) },
	'r': func(m *machine) error { return m.put(4) },
	'h': func(m *machine) error { return m.get(1) },
	'j': func(m *machine) error { return m.get(4) },
	'c': func(m *machine) error {
		module, err := m.in.ReadString('\n')
		if err != nil {
			return err
		}
		name, err := m.in.ReadString('\n')
		if err != nil {
			return err
		}
		return m.push(global(strings.TrimSpace(module) + "." + strings.TrimSpace(name)))
	},
	'Q':  (*machine).persistent,
	'R':  (*machine).call,
	0x81: (*machine).call,
	'b':  func(m *machine) error { _, err := m.pop(); return err }, // the attributes of a dictionary, such as versions of its modules
}

func (m *machine) count(bytes int64) error {
	v, err := m.number(bytes)
	m.push(v)
	return err
}

// long reads a signed number of up to 255 bytes.
func (m *machine) long() error {
	n, err := m.number(1)
	if err != nil {
		return err
	}
	b, err := m.bytes(n)
	if err != nil || n > 8 {
		m.push(integer(b))
		return err
	}
	v := int64(0)
	for i, digit := range b {
		v |= int64(digit) << (8 * i)
	}
	if n > 0 && n < 8 && b[n-1] >= 128 {
		v -= 1 << (8 * n)
	}
	return m.push(v)
}

// tuple makes one of the last n values, −1: of those above the mark.
func (m *machine) tuple(n int) error {
	if n < 0 {
		items, err := m.toMark()
		m.push(tuple(items))
		return err
	}
	if len(m.stack) < n {
		return errors.New("broken program: its stack is empty")
	}
	at := len(m.stack) - n
	items := append(tuple(nil), m.stack[at:]...)
	m.stack = m.stack[:at]
	return m.push(items)
}

// top is the value that instructions fill.
func top[T any](m *machine) (v T, err error) {
	if len(m.stack) > 0 {
		if v, ok := m.stack[len(m.stack)-1].(T); ok {
			return v, nil
		}
	}
	return v, fmt.Errorf("broken program: wanted %T on its stack", v)
}

func (m *machine) set(items ...any) error {
	d, err := top[*dict](m)
	if err != nil {
		return err
	}
	if len(items)%2 != 0 {
		return errors.New("broken program: a key without a value")
	}
	for i := 0; i < len(items); i += 2 {
		d.keys, d.values = append(d.keys, items[i]), append(d.values, items[i+1])
	}
	return nil
}

func (m *machine) append(items ...any) error {
	l, err := top[*list](m)
	if err == nil {
		l.items = append(l.items, items...)
	}
	return err
}

func (m *machine) put(bytes int64) error {
	at, err := m.number(bytes)
	if err != nil {
		return err
	}
	v, err := top[any](m)
	m.memo[int(at)] = v
	return err
}

func (m *machine) get(bytes int64) error {
	at, err := m.number(bytes)
	if err != nil {
		return err
	}
	v, ok := m.memo[int(at)]
	if !ok {
		return fmt.Errorf("broken program: nothing is kept at %d", at)
	}
	return m.push(v)
}

// persistent makes a storage of ("storage", class, key, device, count, …).
func (m *machine) persistent() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	id, _ := v.(tuple)
	if len(id) < 5 || id[0] != "storage" {
		return fmt.Errorf("broken program: wanted a storage, got a %T", v)
	}
	class, _ := id[1].(global)
	key, _ := id[2].(string)
	n, _ := id[4].(int64)
	kind, ok := kinds[strings.TrimPrefix(string(class), "torch.")]
	if !ok {
		return fmt.Errorf("numbers of class %q: wanted a storage of numbers", class)
	}
	if n < 0 || n > maxBytes/8 || len(id) > 5 && id[5] != nil {
		return fmt.Errorf("storage %q of %d numbers", key, n)
	}
	if m.storages[key] == nil {
		m.storages[key] = &storage{kind: kind, n: n}
	}
	return m.push(m.storages[key])
}

// call does what the few functions do that dictionaries of tensors are made with.
func (m *machine) call() error {
	args, err := m.pop()
	if err != nil {
		return err
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	in, _ := args.(tuple)
	switch f {
	case global("collections.OrderedDict"):
		if len(in) == 0 {
			return m.push(&dict{})
		}
	case global("torch._utils._rebuild_parameter"):
		if len(in) > 0 {
			return m.push(in[0])
		}
	case global("torch._utils._rebuild_tensor_v2"):
		if len(in) < 4 {
			break
		}
		s, ok := in[0].(*storage)
		offset, isNumber := in[1].(int64)
		dims, err1 := numbers(in[2])
		stride, err2 := numbers(in[3])
		if !ok || !isNumber || err1 != nil || err2 != nil {
			break
		}
		return m.push(&view{s, offset, dims, stride})
	default:
		if _, ok := f.(global); !ok {
			return fmt.Errorf("broken program: calls a %T", f)
		}
		return fmt.Errorf("calls %v: wanted a dictionary of tensors alone; save model.state_dict()", f)
	}
	return fmt.Errorf("broken program: %v with %d arguments", f, len(in))
}

func numbers(v any) ([]int64, error) {
	t, ok := v.(tuple)
	if !ok {
		return nil, fmt.Errorf("wanted numbers, got %T", v)
	}
	out := make([]int64, len(t))
	for i := range t {
		if out[i], ok = t[i].(int64); !ok {
			return nil, fmt.Errorf("wanted a number, got %T", t[i])
		}
	}
	return out, nil
}
