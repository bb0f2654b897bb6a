package demo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/api/auth"
	"latchkey/cmd/latchkey/sample"
	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/door/controller"
	"latchkey/handoff/eventlog"
)

// House is the sample building: its doors are controllers as `latchkey door` runs them,
// which dial in to the demonstration's own address, behind simulated locks.
type House struct {
	building sample.Building
	clock    *Clock
	log      *slog.Logger
	ledger   *ledger
	doors    []*houseDoor

	dir     string // of the doors' folders
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	ended []error
}

// NewHouse puts the building up. Nothing runs before Open.
func NewHouse(clock *Clock, log *slog.Logger) *House {
	h := &House{building: sample.TheBuilding(), clock: clock, log: log, ledger: newLedger(), stop: func() {}}
	for _, d := range h.building.Doors {
		h.doors = append(h.doors, newHouseDoor(d))
	}
	return h
}

// Handle is a notify.Handler, by which the house hears what the log says of its doors.
func (h *House) Handle(ctx context.Context, d eventlog.Delivery) error {
	return h.ledger.handle(ctx, d)
}

// Open enrolls the doors, registers the building as its manager would, and starts the
// controllers. Url is the service's, keys sign its permits, and sign makes tokens for it.
func (h *House) Open(ctx context.Context, url string, keys door.KeySet, sign func(auth.Principal) (string, error)) (err error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	if h.dir, err = os.MkdirTemp("", "latchkey-demo-"); err != nil {
		return err
	}
	manager, err := sign(auth.Principal{Subject: "manager", Building: h.building.ID, Scopes: []auth.Scope{auth.Building}})
	if err != nil {
		return err
	}
	if err := put(ctx, url+"/v1/buildings/"+h.building.ID, manager, h.building.Building); err != nil {
		return err
	}
	root, err := door.NewPrivateKey(rand.Reader)
	if err != nil {
		return err
	}
	for _, d := range h.doors {
		folder := filepath.Join(h.dir, d.ID)
		public, err := controller.Enroll(folder, controller.Enrollment{
			Door: d.ID, Root: root.Public(), Keys: keys, Presence: d.reader != nil,
		}, rand.Reader)
		if err != nil {
			return err
		}
		body := d.Body
		body.PublicKey = public.String()
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		if err := put(ctx, url+"/v1/doors/"+d.ID, manager, text); err != nil {
			return err
		}
		token, err := sign(auth.Principal{Subject: d.ID, Scopes: []auth.Scope{auth.Door}})
		if err != nil {
			return err
		}
		run, err := d.controller(folder, url, token, h.clock, h.log)
		if err != nil {
			return err
		}
		h.running.Go(func() {
			if err := run(running); err != nil {
				h.mu.Lock()
				h.ended = append(h.ended, fmt.Errorf("%s: %w", d.ID, err))
				h.mu.Unlock()
			}
		})
	}
	return nil
}

// Close waits until the doors are locked and have reported it, and removes what they
// kept. Call it while the service still runs.
func (h *House) Close() error {
	h.stop()
	for _, d := range h.doors {
		d.cable.cut(false) // or the last reports would be waited for in vain
	}
	h.running.Wait()
	if h.dir != "" {
		h.ended = append(h.ended, os.RemoveAll(h.dir))
	}
	return errors.Join(h.ended...)
}

func (h *House) door(id string) *houseDoor {
	for _, d := range h.doors {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// put registers something at the service.
func put(ctx context.Context, url, token string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("PUT %s: the service answered %d", req.URL.Path, resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// houseDoor is one door: what is registered of it, its lock and its ways to the world.
type houseDoor struct {
	sample.Door
	lock   *lock
	cable  *cable
	reader *reader // nil where there is nothing to read or to hold a phone to
}

// newHouseDoor gives a reader to the doors that ask for presence.
func newHouseDoor(d sample.Door) *houseDoor {
	h := &houseDoor{Door: d, lock: newLock(), cable: newCable()}
	if d.Body.Mode == handoff.Carried.String() || d.Body.Owner != nil {
		h.reader = newReader()
	}
	return h
}

// controller opens the door's folder and returns what runs it. The lobby gets its permits
// from phones alone, for none are sent to it; its cable is for its reports.
func (d *houseDoor) controller(folder, url, token string, clock *Clock, log *slog.Logger) (run func(context.Context) error, err error) {
	address, err := controller.ParseURL(url)
	if err != nil {
		return nil, err
	}
	f, err := controller.Open(folder, rand.Reader)
	if err != nil {
		return nil, err
	}
	c := controller.Config{
		Folder: f, Opener: d.lock, Watch: []controller.Watch{d.lock.watch}, Clock: clock, Log: log,
		Relock: time.Duration(d.Body.RelockS) * time.Second,
		Service: &controller.Service{
			URL: address, Token: func() (string, error) { return token, nil }, Transport: d.cable.transport,
		},
	}
	if d.reader != nil {
		c.Lines, c.Answers = d.reader.lines, d.reader
	}
	box, err := controller.New(c)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func(ctx context.Context) error {
		err := box.Run(ctx)
		if d.reader != nil {
			d.reader.close()
		}
		d.cable.transport.CloseIdleConnections()
		return errors.Join(err, f.Close())
	}, nil
}

// reader is what stands beside a door: it shows the door's challenge and takes permits
// from phones. It speaks with the controller by lines, one answer for each.
type reader struct {
	mu      sync.Mutex // one line at a time
	lines   *io.PipeReader
	say     *io.PipeWriter
	answers *bufio.Scanner
	hear    *io.PipeReader
	answer  *io.PipeWriter
}

func newReader() *reader {
	r := new(reader)
	r.lines, r.say = io.Pipe()
	r.hear, r.answer = io.Pipe()
	r.answers = bufio.NewScanner(r.hear)
	return r
}

// Write is the controller's side: an answer.
func (r *reader) Write(b []byte) (int, error) { return r.answer.Write(b) }

// errNoReader says that the controller has ended.
var errNoReader = errors.New("demo: the door's controller does not run")

// ask brings one line and returns what the controller answers, when it does.
func (r *reader) ask(line string) (a controller.Answer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := io.WriteString(r.say, line+"\n"); err != nil {
		return a, errNoReader
	}
	if !r.answers.Scan() {
		return a, errNoReader
	}
	return a, json.Unmarshal(r.answers.Bytes(), &a)
}

// close ends the conversation; who waits for an answer gets none.
func (r *reader) close() {
	r.lines.Close()
	r.answer.Close()
}
