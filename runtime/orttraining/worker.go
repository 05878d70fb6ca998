package orttraining

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

//go:embed worker.py
var script string

// ErrWorker is wrapped by the errors of calls whose worker process has ended.
var ErrWorker = errors.New("the training worker has ended")

// A header is the JSON part of a message, in both directions.
type header struct {
	Call  uint64 `json:"call"`
	Op    string `json:"op,omitempty"`
	Error string `json:"error,omitempty"`

	ID      int      `json:"id,omitempty"`
	Target  uint64   `json:"target,omitempty"`
	Inputs  []string `json:"inputs,omitempty"`
	Outputs []string `json:"outputs,omitempty"`
	Tensors []meta   `json:"tensors,omitempty"`

	Level     string              `json:"level,omitempty"`
	Threads   int                 `json:"threads,omitempty"`
	NoSpin    bool                `json:"no_spin,omitempty"`
	NoArena   bool                `json:"no_arena,omitempty"`
	Providers []string            `json:"providers,omitempty"`
	Options   []map[string]string `json:"provider_options,omitempty"`

	Of  string   `json:"of,omitempty"`
	Wrt []string `json:"wrt,omitempty"`

	Version string `json:"version,omitempty"`
	Python  string `json:"python,omitempty"`

	Train      string   `json:"train,omitempty"`
	Optimizer  string   `json:"optimizer,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"`
	Path       string   `json:"path,omitempty"`
	LR         *float64 `json:"lr,omitempty"`
	Names      []string `json:"names,omitempty"`
}

// A meta describes the blob of a tensor: NumPy's name of the type, and its dimensions.
type meta struct {
	Type string `json:"type"`
	Dims []int  `json:"dims"`
}

type message struct {
	header
	blobs [][]byte
}

// A worker is the process on the other side.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr tail
	gone   chan struct{} // closed once the process has ended

	writing sync.Mutex
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan message
	dead    error
}

// start runs the script with a Python interpreter.
func start(python string) (*worker, error) {
	w := &worker{cmd: exec.Command(python, "-I", "-c", script), waiting: map[uint64]chan message{}, gone: make(chan struct{})}
	w.cmd.Stderr = &w.stderr
	w.cmd.WaitDelay = 5 * time.Second
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the training worker: %w", err)
	}
	go w.listen(bufio.NewReaderSize(out, 1<<16))
	return w, nil
}

// listen hands replies to the calls that wait for them, until the end.
func (w *worker) listen(r io.Reader) {
	var err error
	for {
		var m message
		if m, err = read(r); err != nil {
			break
		}
		w.mu.Lock()
		c := w.waiting[m.Call]
		delete(w.waiting, m.Call)
		w.mu.Unlock()
		if c != nil {
			c <- m
		}
	}
	w.cmd.Process.Kill() // it may have closed its end and live on
	state := w.cmd.Wait()
	why := w.stderr.last()
	if why == "" {
		why = "it said nothing"
	}
	w.mu.Lock()
	w.dead = fmt.Errorf("%w (%v): %s", ErrWorker, state, why)
	for id, c := range w.waiting {
		close(c)
		delete(w.waiting, id)
	}
	w.mu.Unlock()
	close(w.gone)
}

// maxHeader bounds the JSON part of a reply.
const maxHeader = 64 << 20

func read(r io.Reader) (m message, err error) {
	var sizes [2]uint32
	if err := binary.Read(r, binary.LittleEndian, &sizes); err != nil {
		return m, err
	}
	if sizes[0] > maxHeader || sizes[1] > maxHeader {
		return m, fmt.Errorf("a reply with a header of %d bytes and %d blobs", sizes[0], sizes[1])
	}
	text := make([]byte, sizes[0])
	if _, err := io.ReadFull(r, text); err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m.header); err != nil {
		return m, err
	}
	for range sizes[1] {
		var n uint64
		if err := binary.Read(r, binary.LittleEndian, &n); err != nil {
			return m, err
		}
		// Grown as bytes arrive: a wrong length cannot ask for more memory than was sent.
		var b bytes.Buffer
		if n < 1<<26 {
			b.Grow(int(n))
		}
		if _, err := io.CopyN(&b, r, int64(n)); err != nil {
			return m, err
		}
		m.blobs = append(m.blobs, b.Bytes())
	}
	return m, nil
}

// send writes a request and returns its number and where the reply will come.
func (w *worker) send(h header, blobs [][]byte) (uint64, chan message, error) {
	c := make(chan message, 1)
	w.mu.Lock()
	if w.dead != nil {
		defer w.mu.Unlock()
		return 0, nil, w.dead
	}
	w.last++
	h.Call = w.last
	w.waiting[h.Call] = c
	w.mu.Unlock()

	text, err := json.Marshal(h)
	if err != nil {
		return 0, nil, err
	}
	b := make([]byte, 0, len(text)+8+8*len(blobs))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blobs)))
	b = append(b, text...)
	w.writing.Lock()
	defer w.writing.Unlock()
	_, err = w.in.Write(b)
	for _, blob := range blobs {
		if err == nil {
			_, err = w.in.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(blob))))
		}
		if err == nil {
			_, err = w.in.Write(blob)
		}
	}
	if err != nil { // the pipe is broken: listen says why
		<-w.gone
		w.mu.Lock()
		defer w.mu.Unlock()
		return 0, nil, w.dead
	}
	return h.Call, c, nil
}

// call sends a request and waits for the reply, or for ctx to end; then the call
// is ended on the other side too.
func (w *worker) call(ctx context.Context, h header, blobs ...[]byte) (message, error) {
	if err := ctx.Err(); err != nil {
		return message{}, err
	}
	id, c, err := w.send(h, blobs)
	if err != nil {
		return message{}, err
	}
	var m message
	var open bool
	select {
	case m, open = <-c:
	case <-ctx.Done():
		w.send(header{Op: "cancel", Target: id}, nil)
		return message{}, fmt.Errorf("stopped: %w", ctx.Err())
	}
	if !open {
		w.mu.Lock()
		defer w.mu.Unlock()
		return message{}, w.dead
	}
	if m.Error != "" {
		return message{}, errors.New(m.Error)
	}
	return m, nil
}

// close ends the process.
func (w *worker) close() {
	w.in.Close()
	select {
	case <-w.gone:
	case <-time.After(2 * time.Second):
		w.cmd.Process.Kill()
		<-w.gone
	}
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text) - 4096; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

// last is the last line that is not empty.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
