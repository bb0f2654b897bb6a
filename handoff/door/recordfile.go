package door

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// recordFile is a file of records that are on the disk when append returns. A door keeps
// four: its replay memory, its trust, its outbox and its keypad's memory.
//
//	file   = 16 bytes that name the format (magic), then slots of one size
//	slot   = length in bytes (2, big endian) | payload | zeros | CRC-32C of all before (4)
//
// All slots have one size, so that a torn write is recognisable: a power cut can have torn
// only the last slot. That slot is dropped, because append had not returned and nothing was
// done on its word. Damage in any other slot is no torn write, and the file is refused.
//
// A recordFile is not safe for concurrent use: its owner must lock.
type recordFile struct {
	file   *os.File
	path   string
	slot   int   // bytes of one slot, its frame included
	slots  int   // how many the file holds
	broken error // of the first failed write: what the disk holds is unknown from then on

	// Sync is (*os.File).Sync, but for tests that look at what a power cut leaves.
	sync func(*os.File) error
}

const (
	magicSize = 16
	slotFrame = 2 + 4
)

// ErrInUse says that another process has the door's file open: a controller runs already.
var ErrInUse = errors.New("door: the file is in use by another process")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// createRecordFile makes a file without records. Where a file exists already, it fails with
// os.ErrExist: a door that forgets which permits were used would open twice for one.
func createRecordFile(path, magic string, slot int) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("door: %s: %w", path, os.ErrExist)
	}
	r := &recordFile{path: path, slot: slot, sync: (*os.File).Sync}
	file, err := r.write([]byte(magic), nil)
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}

// openRecordFile opens a file and reads its payloads, oldest first. The error wraps
// os.ErrNotExist where there is no file (none is made), ErrInUse where another process has
// it open; a foreign format and damage are errors too.
func openRecordFile(path, magic string, slot int) (_ *recordFile, payloads [][]byte, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("door: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	if err := lock(file, path); err != nil {
		return nil, nil, fmt.Errorf("door: %s: %w", path, err)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, nil, fmt.Errorf("door: %w", err)
	}
	if len(content) < magicSize || string(content[:magicSize]) != magic {
		return nil, nil, fmt.Errorf("door: %s is not a file of %q", path, magic)
	}

	r := &recordFile{file: file, path: path, slot: slot, sync: (*os.File).Sync}
	for at := magicSize; at < len(content); at += slot {
		end := min(at+slot, len(content))
		payload, whole := unframe(content[at:end], slot)
		if !whole && end < len(content) {
			return nil, nil, fmt.Errorf("door: %s is damaged at byte %d: enrol the door anew", path, at)
		}
		if !whole {
			break
		}
		payloads = append(payloads, payload)
	}
	r.slots = len(payloads)
	if whole := r.size(); whole != int64(len(content)) {
		if err := file.Truncate(whole); err != nil {
			return nil, nil, fmt.Errorf("door: dropping a torn record: %w", err)
		}
		if err := r.sync(file); err != nil {
			return nil, nil, fmt.Errorf("door: dropping a torn record: %w", err)
		}
	}
	return r, payloads, nil
}

func (r *recordFile) size() int64 { return int64(magicSize + r.slots*r.slot) }

func frame(payload []byte, slot int) ([]byte, error) {
	if len(payload) > slot-slotFrame {
		return nil, fmt.Errorf("door: a record of %d bytes in a slot of %d", len(payload), slot)
	}
	b := make([]byte, slot)
	binary.BigEndian.PutUint16(b, uint16(len(payload)))
	copy(b[2:], payload)
	binary.BigEndian.PutUint32(b[slot-4:], crc32.Checksum(b[:slot-4], castagnoli))
	return b, nil
}

func unframe(b []byte, slot int) ([]byte, bool) {
	if len(b) != slot || crc32.Checksum(b[:slot-4], castagnoli) != binary.BigEndian.Uint32(b[slot-4:]) {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > slot-slotFrame {
		return nil, false
	}
	return b[2 : 2+n : 2+n], true
}

// append adds a record. When it returns nil, the record survives a power cut. After a
// failed write the file takes no more records: a failed fsync may have dropped what it was
// asked to write, and a second fsync would answer "done".
func (r *recordFile) append(payload []byte) error {
	if r.broken != nil {
		return r.broken
	}
	b, err := frame(payload, r.slot)
	if err != nil {
		return err
	}
	if _, err = r.file.WriteAt(b, r.size()); err == nil {
		err = r.sync(r.file)
	}
	if err != nil {
		r.broken = fmt.Errorf("door: writing %s: %w", r.path, err)
		return r.broken
	}
	r.slots++
	return nil
}

// rewrite replaces all records in one step: a power cut leaves the old ones or the new ones.
func (r *recordFile) rewrite(payloads [][]byte) error {
	if r.broken != nil {
		return r.broken
	}
	magic := make([]byte, magicSize)
	if _, err := r.file.ReadAt(magic, 0); err != nil {
		return fmt.Errorf("door: %w", err)
	}
	file, err := r.write(magic, payloads)
	if file != nil { // the name points at it now, even where the directory's fsync failed
		_ = r.file.Close()
		r.file, r.slots = file, len(payloads)
	}
	if file != nil && err != nil {
		r.broken = err
	}
	return err
}

// write makes a whole file beside the old one and moves it into its place. The file is nil
// if it could not be moved there.
func (r *recordFile) write(magic []byte, payloads [][]byte) (_ *os.File, err error) {
	content := append(make([]byte, 0, magicSize+len(payloads)*r.slot), magic...)
	for _, p := range payloads {
		b, err := frame(p, r.slot)
		if err != nil {
			return nil, err
		}
		content = append(content, b...)
	}
	temp := r.path + ".new" // one name, so that what a power cut leaves is overwritten
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	if err = lockOpen(file); err == nil { // before it has the name, so that no other process opens it first
		if _, err = file.Write(content); err == nil {
			err = r.sync(file)
		}
	}
	if err == nil {
		err = os.Rename(temp, r.path)
	}
	if err != nil {
		_ = file.Close()
		_ = os.Remove(temp)
		return nil, fmt.Errorf("door: writing %s: %w", r.path, err)
	}
	return file, r.syncDir()
}

func (r *recordFile) syncDir() error {
	dir, err := os.Open(filepath.Dir(r.path))
	if err != nil {
		return fmt.Errorf("door: %w", err)
	}
	defer func() { _ = dir.Close() }()
	if err := r.sync(dir); err != nil {
		return fmt.Errorf("door: writing the folder of %s: %w", r.path, err)
	}
	return nil
}

// Close releases the file.
func (r *recordFile) Close() error { return r.file.Close() }

// lock takes the file for this process, and checks that its name still means this file.
func lock(file *os.File, path string) error {
	if err := lockOpen(file); err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	opened, err := file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, opened) {
		return ErrInUse
	}
	return nil
}
