package api

import (
	"os"
	"sync"
)

const (
	spoolMemory = 1 << 20   // bytes of results held in memory
	spoolFile   = 128 << 20 // bytes of the file for the rest; when it is full, their maker waits
)

// spool holds the results that a client does not read yet. Many clients send a whole
// body before they read the first byte of the answer; without it, such a client and the
// server would wait for each other once the buffers of the network are full. Little is
// held in memory, the rest in a file that has no name, written round and round. Results
// hold no personal data.
type spool struct {
	room int64 // bytes of the file

	mu    sync.Mutex
	moved sync.Cond // something was written or read, or it ended

	memory []byte // what is read first

	file          *os.File // what comes after that: a ring of room bytes
	read, written int64    // since the beginning

	ended error // io.EOF once all is written; else what failed
}

func newSpool() *spool {
	s := &spool{room: spoolFile}
	s.moved.L = &s.mu
	return s
}

// write appends a result, and waits while there are too many. It reports false once
// the results are no longer wanted.
func (s *spool) write(result []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.written-s.read+int64(len(result)) > s.room && s.ended == nil {
		s.moved.Wait()
	}
	if s.ended != nil {
		return false
	}
	if s.written == s.read && len(s.memory)+len(result) <= spoolMemory {
		s.memory = append(s.memory, result...)
	} else if err := s.spill(result); err != nil {
		s.ended = err
	}
	s.moved.Broadcast()
	return s.ended == nil
}

func (s *spool) spill(result []byte) error {
	if s.file == nil {
		f, err := os.CreateTemp("", "latchkey-bulk-*")
		if err != nil {
			return err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	for len(result) > 0 {
		at := s.written % s.room
		n, err := s.file.WriteAt(result[:min(int64(len(result)), s.room-at)], at)
		s.written += int64(n)
		result = result[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

// Read implements io.Reader: it waits for the first byte and takes along what is there.
func (s *spool) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.memory) == 0 && s.written == s.read {
		if s.ended != nil {
			return 0, s.ended
		}
		s.moved.Wait()
	}
	defer s.moved.Broadcast()
	if len(s.memory) > 0 {
		n := copy(p, s.memory)
		s.memory = append(s.memory[:0], s.memory[n:]...)
		return n, nil
	}
	at := s.read % s.room
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.written-s.read, s.room-at)], at)
	s.read += int64(n)
	if n > 0 {
		err = nil // at the end of the file, which is not the end of the ring
	}
	return n, err
}

// end says that nothing more will be written; what was, can still be read.
func (s *spool) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = why
	}
	s.moved.Broadcast()
}

// close frees the file. It may be neither written nor read afterwards.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
