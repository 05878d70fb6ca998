package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of TensorBoard's messages (tensorflow/core/util/event.proto and
// framework/summary.proto).
const (
	eventWallTime    = 1 // double, seconds
	eventStep        = 2 // int64
	eventFileVersion = 3 // string, first event only
	eventSummary     = 5 // Summary
	eventSessionLog  = 7 // SessionLog

	sessionStatus      = 1 // enum
	sessionStatusStart = 1

	summaryValue     = 1 // repeated Value
	valueTag         = 1 // string
	valueSimple      = 2 // float
	valueImage       = 4 // Image
	imageHeight      = 1
	imageWidth       = 2
	imageColorspace  = 3 // channels: 1 grey, 3 RGB, 4 RGBA
	imageEncodedData = 4
)

// events appends to one TensorBoard event file. Each event reaches the file in one write, so a kill
// cuts at most the last one, which TensorBoard skips.
type events struct {
	w   io.WriteCloser
	now func() time.Time
}

// newEvents starts a new event file in dir, next to those that are there.
func newEvents(dir string, now func() time.Time) (*events, error) {
	// TensorBoard reads the files of a folder in the order of their names.
	stamp := now().Unix()
	for ; ; stamp++ {
		path := filepath.Join(dir, fmt.Sprintf("events.out.tfevents.%010d.ebmrun", stamp))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e := &events{w: f, now: now}
		version := protowire.AppendTag(nil, eventFileVersion, protowire.BytesType)
		return e, e.write(protowire.AppendString(version, "brain.Event:2"))
	}
}

// restart tells TensorBoard to forget events of this step and later ones in earlier files.
func (e *events) restart(step int) error {
	status := protowire.AppendTag(nil, sessionStatus, protowire.VarintType)
	status = protowire.AppendVarint(status, sessionStatusStart)
	return e.write(appendMessage(appendStep(nil, step), eventSessionLog, status))
}

// scalars writes one event that holds all values.
func (e *events) scalars(step int, values map[string]float64) error {
	var summary []byte
	for _, tag := range slices.Sorted(maps.Keys(values)) {
		v := appendMessage(nil, valueTag, []byte(tag))
		v = protowire.AppendTag(v, valueSimple, protowire.Fixed32Type)
		v = protowire.AppendFixed32(v, math.Float32bits(float32(values[tag])))
		summary = appendMessage(summary, summaryValue, v)
	}
	return e.write(appendMessage(appendStep(nil, step), eventSummary, summary))
}

// picture writes one event that holds a PNG file.
func (e *events) picture(step int, tag string, png []byte, width, height, channels int) error {
	var img []byte
	for field, n := range []int{imageHeight: height, imageWidth: width, imageColorspace: channels} {
		if field > 0 {
			img = protowire.AppendTag(img, protowire.Number(field), protowire.VarintType)
			img = protowire.AppendVarint(img, uint64(n))
		}
	}
	img = appendMessage(img, imageEncodedData, png)
	v := appendMessage(appendMessage(nil, valueTag, []byte(tag)), valueImage, img)
	return e.write(appendMessage(appendStep(nil, step), eventSummary, appendMessage(nil, summaryValue, v)))
}

// write frames an Event whose fields after the wall time are given.
func (e *events) write(fields []byte) error {
	event := protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type)
	event = protowire.AppendFixed64(event, math.Float64bits(float64(e.now().UnixMicro())/1e6))
	_, err := e.w.Write(frame(append(event, fields...)))
	return err
}

func (e *events) close() error { return e.w.Close() }

func appendStep(b []byte, step int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, eventStep, protowire.VarintType), uint64(step))
}

func appendMessage(b []byte, field protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), message)
}

// frame wraps data as one TFRecord: length (uint64), its masked CRC, data, its masked CRC, all
// little-endian (tensorflow/core/lib/io/record_writer.h).
func frame(data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, len(data)+16), uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, maskedCRC(b))
	b = append(b, data...)
	return binary.LittleEndian.AppendUint32(b, maskedCRC(data))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is CRC-32C, rotated right by 15 bits plus a constant, so that the CRC of data that
// holds CRCs stays useful.
func maskedCRC(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}
