package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/handoff/door"
	"latchkey/handoff/door/controller"
	"latchkey/handoff/keyring"
)

type doorCmd struct {
	Enroll doorEnrollCmd `cmd:"" help:"Make the folder of a new door and print the public key to register. Never overwrites one."`
	Run    doorRunCmd    `cmd:"" help:"Run a door: take permits, move the lock, report. It listens on no network."`
}

type doorEnrollCmd struct {
	Dir       string           `arg:"" help:"The door's folder; it must not exist. Who reads it can report in the door's name." type:"path"`
	Door      string           `required:"" placeholder:"ID" help:"The door's id in the registry."`
	Root      door.PublicKey   `required:"" placeholder:"KEY" help:"The root key, which signs revocation lists (base64url), as --root=KEY."`
	Pin       []door.PublicKey `placeholder:"KEY" help:"A signing key of the service (base64url), as --pin=KEY; once for each."`
	Keys      string           `placeholder:"FILE" type:"existingfile" help:"The signing keys as a JWK Set: the answer of GET /v1/doors/keys."`
	Presence  bool             `help:"Open only for permits that are bound to the door's own fresh challenge."`
	Keypad    bool             `xor:"keypad" help:"The door has a keypad: make its key, in DIR/keypad.key, for the registry."`
	KeypadKey string           `xor:"keypad" placeholder:"FILE" type:"existingfile" help:"The door has a keypad, and the registry made its key (base64url)."`
}

// Run enrolls a door.
func (c *doorEnrollCmd) Run(io streams) error {
	e := controller.Enrollment{Door: c.Door, Root: c.Root, Keys: c.Pin, Presence: c.Presence}
	if c.Keys != "" {
		content, err := os.ReadFile(c.Keys)
		if err != nil {
			return err
		}
		set, list, err := parseDoorKeys(content)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Keys, err)
		}
		e.Keys, e.Revocation = append(e.Keys, set...), list
	}
	if len(e.Keys) == 0 {
		return errors.New("a door must know whom to believe: give the service's keys by --pin or --keys")
	}
	var err error
	switch {
	case c.Keypad:
		e.Keypad, err = door.NewPINKey(rand.Reader)
	case c.KeypadKey != "":
		var content []byte
		if content, err = keyring.ReadSecret(c.KeypadKey); err == nil {
			e.Keypad, err = controller.ParsePINKey(content)
		}
	}
	if err != nil {
		return err
	}
	public, err := controller.Enroll(c.Dir, e, rand.Reader)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.out, public)
	if c.Keypad {
		fmt.Fprintf(io.err, "The keypad's key is %s. Who knows it can compute every PIN of this door.\n", filepath.Join(c.Dir, "keypad.key"))
	}
	return nil
}

// parseDoorKeys reads the answer of GET /v1/doors/keys: a JWK Set, beside which the
// newest revocation list may stand.
func parseDoorKeys(content []byte) (set door.KeySet, list []byte, err error) {
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, nil, err
	}
	var beside struct {
		Revocation string `json:"revocation"`
	}
	if err := json.Unmarshal(content, &beside); err != nil {
		return nil, nil, err
	}
	list, err = base64.RawURLEncoding.Strict().DecodeString(beside.Revocation)
	return set, list, err
}

// doorRunCmd is a door controller. Every flag can also come from a file by --config.
type doorRunCmd struct {
	Dir string `arg:"" help:"The door's folder, made by: latchkey door enroll." type:"existingdir"`

	URL       string `placeholder:"URL" env:"LATCHKEY_URL" help:"Connected: the service to dial (${env})."`
	Token     string `placeholder:"TOKEN" env:"LATCHKEY_DOOR_TOKEN" xor:"token" help:"A bearer token with the scope door, better given as a file (${env})."`
	TokenFile string `placeholder:"FILE" env:"LATCHKEY_DOOR_TOKEN_FILE" xor:"token" type:"path" help:"The file with the token, read again for every request (${env})."`
	Stdin     bool   `xor:"lines" help:"Carried: permits and PINs come as lines on standard input."`
	Socket    string `xor:"lines" placeholder:"PATH" type:"path" help:"Carried: they come as lines on a local socket, mode 0600."`

	OpenCommand  controller.Argv   `xor:"opener" and:"command" placeholder:"COMMAND" help:"Unlocks: a program and its arguments, no shell; exit code 0 confirms."`
	CloseCommand controller.Argv   `and:"command" placeholder:"COMMAND" help:"Locks. It must be harmless to run twice."`
	MQTT         controller.Broker `name:"mqtt" xor:"opener" env:"LATCHKEY_DOOR_MQTT" placeholder:"URL" help:"A lock behind MQTT: mqtts://USER:PASSWORD@HOST[:PORT]/TOPIC, such as zigbee2mqtt/NAME (${env})."`
	MQTTCA       string            `name:"mqtt-ca" placeholder:"FILE" type:"existingfile" help:"The broker's certificate authority, PEM; left out: the system's."`
	MQTTContact  string            `name:"mqtt-contact" placeholder:"TOPIC" help:"The topic of a door contact beside the lock."`

	MQTTConvention   controller.Convention `name:"mqtt-convention" default:"zigbee2mqtt" placeholder:"NAME" help:"How the lock is told to move, and tells where it stands: zigbee2mqtt or home-assistant (plain LOCK and LOCKED)."`
	MQTTState        string                `name:"mqtt-state" placeholder:"TOPIC" help:"Where the lock tells its state; left out: the URL's topic, or TOPIC/state with home-assistant."`
	MQTTCommand      string                `name:"mqtt-command" placeholder:"TOPIC" help:"Where the lock is told to move; left out: TOPIC/set."`
	MQTTReadback     string                `name:"mqtt-readback" placeholder:"TOPIC" help:"Where the lock is asked for its state; left out: TOPIC/get, or nowhere with home-assistant."`
	MQTTAvailability string                `name:"mqtt-availability" placeholder:"TOPIC" help:"Where it stands whether the lock can be reached; left out: TOPIC/availability."`

	ContactCommand controller.Argv `placeholder:"COMMAND" help:"Reads a door contact, twice a second: it prints open or closed."`

	Relock   time.Duration `default:"5s" help:"How long the lock stays unlocked, for PINs and wherever the registry names no time for this door (relock_s)."`
	HeldOpen time.Duration `default:"30s" help:"After which a door that stays open behind a locked lock is reported."`
	Patience time.Duration `default:"10s" help:"How long the lock may take to move."`

	Debug bool `env:"LATCHKEY_DEBUG" help:"Log more (${env})."`
}

// Run runs the door until ctx ends and the lock is locked.
func (c *doorRunCmd) Run(ctx context.Context, io streams) (err error) {
	log := newLog(io.err, c.Debug)
	folder, err := controller.Open(c.Dir, rand.Reader)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()

	cfg := controller.Config{
		Folder: folder, Relock: c.Relock, HeldOpen: c.HeldOpen, Patience: c.Patience, Clock: io.now(), Log: log,
	}
	if c.Socket != "" { // first, while nothing else runs
		if cfg.Socket, err = controller.ListenSocket(c.Socket); err != nil {
			return err
		}
		defer cfg.Socket.Close()
	}
	if c.Stdin {
		cfg.Lines, cfg.Answers = os.Stdin, io.out
	}
	if cfg.Service, err = c.service(); err != nil {
		return err
	}
	if cfg.Opener, cfg.Watch, err = c.opener(folder.Door(), log); err != nil {
		return err
	}
	door, err := controller.New(cfg)
	if err != nil {
		return err
	}
	log.Info("running", "door", folder.Door(), "url", c.URL, "socket", c.Socket, "stdin", c.Stdin, "relock", c.Relock.String())
	return door.Run(ctx)
}

func (c *doorRunCmd) service() (*controller.Service, error) {
	if c.URL == "" {
		return nil, nil
	}
	url, err := controller.ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	token := func() (string, error) { return c.Token, nil }
	switch {
	case c.TokenFile != "":
		token = func() (string, error) {
			content, err := keyring.ReadSecret(c.TokenFile)
			return strings.TrimSpace(string(content)), err
		}
		if _, err := token(); err != nil {
			return nil, err
		}
	case c.Token == "":
		return nil, errors.New("a connected door needs --token-file")
	}
	return &controller.Service{URL: url, Token: token}, nil
}

func (c *doorRunCmd) opener(id string, log *slog.Logger) (opener controller.Opener, watch []controller.Watch, err error) {
	if len(c.ContactCommand) > 0 {
		watch = append(watch, controller.WatchCommand(c.ContactCommand, func(err error) { log.Warn("the door contact", "error", err) }))
	}
	if c.MQTT.IsZero() {
		if len(c.OpenCommand) == 0 {
			return nil, nil, errors.New("nothing moves the lock: give --open-command and --close-command, or --mqtt")
		}
		for _, other := range []struct{ flag, topic string }{
			{"contact", c.MQTTContact}, {"state", c.MQTTState}, {"command", c.MQTTCommand}, {"readback", c.MQTTReadback}, {"availability", c.MQTTAvailability},
		} {
			if other.topic != "" {
				return nil, nil, fmt.Errorf("--mqtt-%s needs --mqtt", other.flag)
			}
		}
		return controller.Command{Open: c.OpenCommand, Close: c.CloseCommand, Log: log}, watch, nil
	}
	m := controller.MQTTConfig{Broker: c.MQTT, Contact: c.MQTTContact, Client: "latchkey-" + id, Log: log, Convention: c.MQTTConvention}
	m.Topics = controller.Topics{State: c.MQTTState, Command: c.MQTTCommand, Readback: c.MQTTReadback, Availability: c.MQTTAvailability}
	if c.MQTTCA != "" {
		content, err := os.ReadFile(c.MQTTCA)
		if err != nil {
			return nil, nil, err
		}
		m.Roots = x509.NewCertPool()
		if !m.Roots.AppendCertsFromPEM(bytes.TrimSpace(content)) {
			return nil, nil, fmt.Errorf("%s holds no certificate", c.MQTTCA)
		}
	}
	lock, err := controller.NewMQTT(m)
	if err != nil {
		return nil, nil, err
	}
	return lock, append(watch, lock.Watch), nil
}
