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

// journal is a file of records that are on the disk when append returns.
//
//	file   = 16 bytes of magic, then slots of one size
//	slot   = length (2, big endian) | payload | zeros | CRC-32C of all before (4)
//
// Slots of one size are what makes a torn write recognisable: only the last slot can
// be the one that a power cut tore, whatever its bytes say. It is dropped, rightly,
// for append had not returned and nobody acted on it. Damage anywhere else is not a
// torn write, and the file is refused.
//
// A journal is not safe for concurrent use; its owners lock.
type journal struct {
	file   *os.File
	path   string
	slot   int
	slots  int
	broken error // of the first failed write: what the disk holds is unknown from there on

	// Sync is (*os.File).Sync, but for tests that look at what a power cut leaves.
	sync func(*os.File) error
}

const (
	magicSize = 16
	slotFrame = 2 + 4
)

// ErrInUse says that another process has the door's file open.
var ErrInUse = errors.New("door: the file is in use by another process")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// createJournal makes an empty journal, and fails if there is a file already: a door
// that forgets what it remembered would open twice for one permit.
func createJournal(path, magic string, slot int) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("door: %s: %w", path, os.ErrExist)
	}
	j := &journal{path: path, slot: slot, sync: (*os.File).Sync}
	file, err := j.write([]byte(magic), nil)
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}

// openJournal reads the payloads of a journal, oldest first. It never makes one: a
// missing file is a door without memory.
func openJournal(path, magic string, slot int) (_ *journal, payloads [][]byte, err error) {
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

	j := &journal{file: file, path: path, slot: slot, sync: (*os.File).Sync}
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
	j.slots = len(payloads)
	if whole := j.size(); whole != int64(len(content)) {
		if err := file.Truncate(whole); err != nil {
			return nil, nil, fmt.Errorf("door: dropping a torn record: %w", err)
		}
		if err := j.sync(file); err != nil {
			return nil, nil, fmt.Errorf("door: dropping a torn record: %w", err)
		}
	}
	return j, payloads, nil
}

func (j *journal) size() int64 { return int64(magicSize + j.slots*j.slot) }

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

// append adds a record. When it returns nil the record survives a power cut. After an
// error the journal takes no more: a failed fsync may have dropped what it was asked
// to write, and asking again would answer "done".
func (j *journal) append(payload []byte) error {
	if j.broken != nil {
		return j.broken
	}
	b, err := frame(payload, j.slot)
	if err != nil {
		return err
	}
	if _, err = j.file.WriteAt(b, j.size()); err == nil {
		err = j.sync(j.file)
	}
	if err != nil {
		j.broken = fmt.Errorf("door: writing %s: %w", j.path, err)
		return j.broken
	}
	j.slots++
	return nil
}

// rewrite replaces all records in one step: a power cut leaves the old ones or the new.
func (j *journal) rewrite(payloads [][]byte) error {
	if j.broken != nil {
		return j.broken
	}
	magic := make([]byte, magicSize)
	if _, err := j.file.ReadAt(magic, 0); err != nil {
		return fmt.Errorf("door: %w", err)
	}
	file, err := j.write(magic, payloads)
	if file != nil { // the name points at it now, even where the directory's fsync failed
		_ = j.file.Close()
		j.file, j.slots = file, len(payloads)
	}
	if file != nil && err != nil {
		j.broken = err
	}
	return err
}

// write makes a whole file beside the journal and moves it into its place. The file
// is nil if the place was not taken.
func (j *journal) write(magic []byte, payloads [][]byte) (_ *os.File, err error) {
	content := append(make([]byte, 0, magicSize+len(payloads)*j.slot), magic...)
	for _, p := range payloads {
		b, err := frame(p, j.slot)
		if err != nil {
			return nil, err
		}
		content = append(content, b...)
	}
	temp := j.path + ".new" // one name, so that what a power cut leaves is overwritten
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	if err = lockOpen(file); err == nil { // before it has the name, so that nobody gets in between
		if _, err = file.Write(content); err == nil {
			err = j.sync(file)
		}
	}
	if err == nil {
		err = os.Rename(temp, j.path)
	}
	if err != nil {
		_ = file.Close()
		_ = os.Remove(temp)
		return nil, fmt.Errorf("door: writing %s: %w", j.path, err)
	}
	return file, j.syncDir()
}

func (j *journal) syncDir() error {
	dir, err := os.Open(filepath.Dir(j.path))
	if err != nil {
		return fmt.Errorf("door: %w", err)
	}
	defer func() { _ = dir.Close() }()
	if err := j.sync(dir); err != nil {
		return fmt.Errorf("door: writing the folder of %s: %w", j.path, err)
	}
	return nil
}

// Close releases the file.
func (j *journal) Close() error { return j.file.Close() }

// lock takes the file for this process, and makes sure that its name was not given to
// another file meanwhile.
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
