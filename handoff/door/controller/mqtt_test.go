package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"latchkey/handoff/door/controller/mqtttest"
)

// retained is a message on the lock's topic that the broker kept.
type retained struct{ payload []byte }

func (r retained) Payload() []byte { return r.payload }
func (retained) Topic() string     { return "zigbee2mqtt/lobby" }
func (retained) Retained() bool    { return true }
func (retained) Duplicate() bool   { return false }
func (retained) Qos() byte         { return 1 }
func (retained) MessageID() uint16 { return 1 }
func (retained) Ack()              {}

// silent is a lock that says nothing.
func silent(string) string { return "" }

// broker is the lobby's lock at the broker, for a user.
func broker(t testing.TB, m *mqtttest.Broker, user, password string) (b Broker) {
	t.Helper()
	if err := b.UnmarshalText([]byte(m.URL(user, password, "zigbee2mqtt/lobby"))); err != nil {
		t.Fatal(err)
	}
	return b
}

// connect makes a lock on the broker and waits until it may be moved.
func connect(t testing.TB, c MQTTConfig) (*MQTT, chan Signal, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	c.Client, c.Log = "latchkey-"+theDoor, newLogger(log)
	m, err := NewMQTT(c)
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan Signal, 100)
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { m.Watch(ctx, func(s Signal) { signals <- s }) })
	t.Cleanup(func() {
		stop()
		watching.Wait()
	})
	return m, signals, log
}

func (m *MQTT) stands() (string, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprint(m.subscribed), "true"
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestMQTT(t *testing.T) {
	mosquitto := mqtttest.Start(t)
	z := mosquitto.Lock("lobby")
	// What the broker remembers from yesterday confirms nothing; where the contact stands, it tells.
	z.Publish("zigbee2mqtt/lobby", true, `{"state":"UNLOCK","lock_state":"unlocked","contact":true}`)
	z.Publish("zigbee2mqtt/contact", true, `{"contact":true,"tamper":false}`)
	m, signals, log := connect(t, MQTTConfig{Broker: broker(t, mosquitto, mqtttest.User, mqtttest.Password), Contact: "zigbee2mqtt/contact", Roots: mosquitto.Roots})
	soon(t, m.stands)
	wants(t, <-signals, ContactClosed)
	wants(t, <-signals, ContactClosed)

	for _, move := range []func(context.Context) error{m.Unlock, m.Lock, m.Unlock, m.Unlock, m.Lock} {
		if err := move(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, z.Told(), "UNLOCK LOCK UNLOCK UNLOCK LOCK")

	t.Run("not confirmed", func(t *testing.T) {
		for name, answer := range map[string]string{
			"silent":         "",
			"the other":      mqtttest.Honest("LOCK"),
			"stuck halfway":  `{"state":"UNLOCK","lock_state":"not_fully_locked"}`,
			"only a battery": `{"battery":3}`,
			"not JSON":       "online",
			"another type":   `{"state":true}`,
			"giant":          `{"state":"UNLOCK","x":"` + strings.Repeat("x", maxMessage) + `"}`,
		} {
			z.Answer(func(string) string { return answer })
			if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
				t.Errorf("%s: confirmed", name)
			}
		}
		z.Answer(func(string) string {
			z.Publish("zigbee2mqtt/contact", false, mqtttest.Honest("UNLOCK"))
			return ""
		})
		if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
			t.Error("confirmed by another device")
		}
		z.Answer(mqtttest.Honest)
		if err := m.Unlock(within(t, 20*time.Second)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})

	// A connection that breaks and comes back brings the retained message anew.
	t.Run("an old message", func(t *testing.T) {
		z.Readback(silent)
		z.Answer(func(string) string {
			m.received(m.client, retained{[]byte(mqtttest.Honest("UNLOCK"))})
			return ""
		})
		if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
			t.Error("confirmed by what the broker remembered")
		}
		z.Answer(mqtttest.Honest)
		z.Readback(mqtttest.Honest)
	})

	t.Run("sensors", func(t *testing.T) {
		for len(signals) > 0 {
			<-signals
		}
		z.Publish("zigbee2mqtt/contact", false, `{"contact":false}`)
		wants(t, <-signals, ContactOpen)
		z.Publish("zigbee2mqtt/contact", false, `{"contact":true,"tamper":true}`)
		wants(t, <-signals, ContactClosed)
		wants(t, <-signals, Tampered)
		z.Publish("zigbee2mqtt/contact", false, `{"tamper":true}`) // still the same
		z.Publish("zigbee2mqtt/contact", false, `{"tamper":false}`)
		z.Publish("zigbee2mqtt/contact", false, `{"tamper":true}`)
		wants(t, <-signals, Tampered)
		wants(t, len(signals), 0)
	})

	t.Run("the broker is away", func(t *testing.T) {
		before := z.Told()
		mosquitto.Stop()
		soon(t, func() (string, string) { got, _ := m.stands(); return got, "false" })
		if err := m.Unlock(within(t, 20*time.Second)); !errors.Is(err, errNotConnected) {
			t.Errorf("without a broker: %v", err)
		}
		if err := m.Lock(within(t, 300*time.Millisecond)); !errors.Is(err, errNotConnected) {
			t.Errorf("locking without a broker: %v", err)
		}
		locked := make(chan error, 1)
		go func() { locked <- m.Lock(within(t, 40*time.Second)) }()
		mosquitto.Restart()
		if err := <-locked; err != nil {
			t.Errorf("after the broker came back: %v", err)
		}
		// What was asked for while it was away was not kept for later.
		wants(t, z.Told(), before+" LOCK")
	})
	if strings.Contains(log.String(), mqtttest.Password) {
		t.Error("the log holds the password")
	}
}

func TestMQTTTrustsNoStranger(t *testing.T) {
	mosquitto := mqtttest.Start(t)
	for name, c := range map[string]MQTTConfig{
		"wrong password":      {Broker: broker(t, mosquitto, mqtttest.User, "guess"), Roots: mosquitto.Roots},
		"unknown certificate": {Broker: broker(t, mosquitto, mqtttest.User, mqtttest.Password)},
	} {
		m, _, log := connect(t, c)
		soon(t, func() (string, string) {
			return fmt.Sprint(strings.Contains(log.String(), "cannot be reached")), "true"
		})
		if got, _ := m.stands(); got == "true" || strings.Contains(log.String(), "connected to") {
			t.Errorf("%s: connected: %s", name, log)
		}
		if err := m.Unlock(within(t, time.Second)); err == nil {
			t.Errorf("%s: confirmed", name)
		}
	}
}

// A door behind a broker, from permit to relocked.
func TestMQTTDoor(t *testing.T) {
	mosquitto := mqtttest.Start(t)
	z := mosquitto.Lock("lobby")
	lock, err := NewMQTT(MQTTConfig{
		Broker: broker(t, mosquitto, mqtttest.User, mqtttest.Password), Contact: "zigbee2mqtt/contact", Roots: mosquitto.Roots,
		Client: "latchkey-" + theDoor, Log: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newSite(t).run(t, nil, func(c *Config) {
		c.Opener, c.Watch, c.Relock = lock, []Watch{lock.Watch}, 300*time.Millisecond
	})
	soon(t, lock.stands)
	z.Publish("zigbee2mqtt/contact", false, `{"contact":true}`)
	_, permit := r.permit(t, nil)
	wants(t, r.ask(permit), Answer{Result: "opened"})
	z.Publish("zigbee2mqtt/contact", false, `{"contact":false}`)
	z.Publish("zigbee2mqtt/contact", false, `{"contact":true}`)
	soon(t, func() (string, string) { return z.Told(), "UNLOCK LOCK" })
	soon(t, func() (string, string) {
		return r.said(t, r.folder), "delivered confirmed opened relocked"
	})
	wants(t, r.end(), "delivered confirmed opened relocked")
}

func TestBroker(t *testing.T) {
	for text, want := range map[string]string{
		"mqtts://u:p@broker.example/zigbee2mqtt/lobby":       "mqtts://broker.example:8883/zigbee2mqtt/lobby",
		"mqtts://u:p@broker.example:1/zigbee2mqtt/lobby%201": "mqtts://broker.example:1/zigbee2mqtt/lobby 1",
		"mqtt://127.0.0.1/x":                                 "mqtt://127.0.0.1:1883/x",
		"mqtt://localhost:7/x":                               "mqtt://localhost:7/x",
		"mqtt://u:s3cret@broker.example/x":                   "",
		"mqtts://u:s3cret@broker.example":                    "",
		"mqtts://u:s3cret@broker.example/zigbee2mqtt/+":      "",
		"mqtts://u:s3cret@broker.example/%23":                "",
		"mqtts://u:s3cret@/x":                                "",
		"mqtts://u:s3cret@broker.example:port/x":             "",
		"https://u:s3cret@broker.example/x":                  "",
		"":                                                   "",
	} {
		var b Broker
		err := b.UnmarshalText([]byte(text))
		if (err == nil) != (want != "") || (err == nil && b.String() != want) {
			t.Errorf("%q: %v, %v", text, b, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error tells the password", text)
		}
	}
	b := Broker{addr: "h:1", password: "s3cret", topic: "x"}
	if shown := fmt.Sprintf("%v %+v %#v %s", b, b, &b, b); strings.Contains(shown, "s3cret") {
		t.Error("printing tells the password: " + shown)
	}
}

// lockedLobby is a lock at a broker, connected, that has told that it is locked.
func lockedLobby(t *testing.T, change ...func(*MQTTConfig)) (*mqtttest.Broker, *mqtttest.Lock, *MQTT, chan Signal, *logBuffer) {
	t.Helper()
	mosquitto := mqtttest.Start(t)
	z := mosquitto.Lock("lobby")
	c := MQTTConfig{Broker: broker(t, mosquitto, mqtttest.User, mqtttest.Password), Roots: mosquitto.Roots, Readback: 50 * time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	m, signals, log := connect(t, c)
	soon(t, m.stands)
	soon(t, func() (string, string) { // the readback of the connection
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.lock.bolt.String(), "locked"
	})
	return mosquitto, z, m, signals, log
}

// zigbee2mqtt publishes what it remembers with every battery report. The lock never moved.
func TestMQTTCacheConfirmsNothing(t *testing.T) {
	_, z, m, _, _ := lockedLobby(t)
	z.Readback(silent) // a lock out of reach answers no readback either
	// The cache is wrong: the lock was locked by hand, and its message was lost.
	z.Publish("zigbee2mqtt/lobby", false, mqtttest.Honest("UNLOCK"))
	soon(t, func() (string, string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.lock.bolt.String(), "unlocked"
	})
	battery := 90
	z.Answer(func(string) string {
		battery--
		return fmt.Sprintf(`{"state":"UNLOCK","lock_state":"unlocked","battery":%d}`, battery)
	})
	if err := m.Unlock(within(t, 400*time.Millisecond)); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a cache published with a battery report: %v", err)
	}
	z.Answer(silent) // once the bridge has read the lock, its cache is right
	z.Readback(mqtttest.Honest)
	if err := m.Unlock(within(t, 400*time.Millisecond)); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("a lock that says by a readback that it is locked: %v", err)
	}
}

// The lock moved and its word was lost: the readback tells.
func TestMQTTReadback(t *testing.T) {
	_, z, m, _, _ := lockedLobby(t)
	z.Answer(func(state string) string {
		z.Move(state)
		return ""
	})
	for _, move := range []func(context.Context) error{m.Unlock, m.Unlock, m.Lock, m.Lock} {
		if err := move(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	// A bolt that takes its time is asked again.
	z.Answer(func(state string) string {
		go func() {
			time.Sleep(120 * time.Millisecond)
			z.Move(state)
		}()
		return ""
	})
	asked := z.Asked()
	if err := m.Unlock(within(t, 20*time.Second)); err != nil || z.Asked()-asked < 3 {
		t.Errorf("%v after %d readbacks", err, z.Asked()-asked)
	}
}

// What the conventions tell of a lock besides where its bolt stands.
func TestMQTTSignals(t *testing.T) {
	_, z, m, signals, log := lockedLobby(t, func(c *MQTTConfig) { c.Halfway = 50 * time.Millisecond })
	next := func(want Signal) {
		t.Helper()
		select {
		case got := <-signals:
			wants(t, got, want)
		case <-time.After(20 * time.Second):
			t.Fatalf("no signal, want %d", want)
		}
	}
	say := func(topic, text string) { z.Publish("zigbee2mqtt/"+topic, false, text) }
	for _, s := range []struct {
		topic, text string
		want        []Signal
	}{
		{"lobby", `{"battery":16}`, nil},
		{"lobby", `{"battery":15}`, []Signal{BatteryLow}},
		{"lobby", `{"battery":17}`, nil},
		{"lobby", `{"battery":14}`, nil}, // still low
		{"lobby", `{"battery":100}`, nil},
		{"lobby", `{"battery_low":true,"battery":"?"}`, []Signal{BatteryLow}},
		{"lobby/availability", `{"state":"offline"}`, []Signal{Unavailable}},
		{"bridge/state", `offline`, nil}, // it could not be reached already
		{"lobby/availability", `{"state":"online"}`, nil},
		{"bridge/state", `{"state":"online"}`, nil},
		{"bridge/state", `{"state":"offline"}`, []Signal{Unavailable}},
		{"bridge/state", `online`, nil},
		{"lobby", `{"door_state":"closed"}`, []Signal{ContactClosed}},
		{"lobby", `{"door_state":"open"}`, []Signal{ContactOpen}},
		{"lobby", `{"door_state":"open"}`, nil},
		{"lobby", `{"door_state":"error_jammed"}`, []Signal{Jammed}},
		{"lobby", `{"door_state":"closed"}`, []Signal{ContactClosed}},
		{"lobby", `{"door_state":"error_forced_open"}`, []Signal{ForcedOpen, ContactOpen}},
		{"lobby", `{"door_state":"error_forced_open"}`, nil},
		{"lobby", `{"battery":50}`, nil}, // says nothing of the door
		{"lobby", `{"door_state":"error_forced_open","tamper":true}`, []Signal{Tampered}},
		{"lobby", `{"state":"UNLOCK","lock_state":"not_fully_locked"}`, []Signal{Jammed}},
	} {
		say(s.topic, s.text)
		for _, want := range s.want {
			next(want)
		}
	}
	say("lobby", `{"action":"manual_unlock","action_user":7}`)
	soon(t, func() (string, string) {
		return fmt.Sprint(strings.Contains(log.String(), `"action":"manual_unlock"`)), "true"
	})
	if strings.Contains(log.String(), "action_user") || len(signals) != 0 {
		t.Errorf("%d more signals; %s", len(signals), log)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	wants(t, len(m.away), 0)
}

func TestMQTTBrokerAwayIsReported(t *testing.T) {
	mosquitto, _, _, signals, _ := lockedLobby(t)
	mosquitto.Stop()
	select {
	case s := <-signals:
		wants(t, s, Unavailable)
	case <-time.After(20 * time.Second):
		t.Error("nothing was told")
	}
}

// A door whose lock does not answer says so, and what it says of its lock reaches the outbox.
func TestMQTTDoorReports(t *testing.T) {
	mosquitto := mqtttest.Start(t)
	z := mosquitto.Lock("lobby")
	lock, err := NewMQTT(MQTTConfig{
		Broker: broker(t, mosquitto, mqtttest.User, mqtttest.Password), Roots: mosquitto.Roots, Readback: 50 * time.Millisecond,
		Client: "latchkey-" + theDoor, Log: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newSite(t).run(t, nil, func(c *Config) {
		c.Opener, c.Watch, c.Patience = lock, []Watch{lock.Watch}, 500*time.Millisecond
	})
	soon(t, lock.stands)
	z.Answer(func(state string) string {
		if state == "LOCK" {
			return mqtttest.Honest(state)
		}
		return ""
	})
	z.Readback(func(string) string { return "" })
	_, permit := r.permit(t, nil)
	wants(t, r.ask(permit), Answer{Result: "failed", Reason: "no-answer"})
	z.Readback(mqtttest.Honest)
	z.Publish("zigbee2mqtt/lobby", false, `{"battery":3,"door_state":"error_jammed"}`)
	z.Publish("zigbee2mqtt/lobby/availability", false, `{"state":"offline"}`)
	want := "delivered no-answer jammed battery-low unavailable"
	soon(t, func() (string, string) { return r.said(t, r.folder), want })
	wants(t, r.end(), want)
}

// A lock in Home Assistant's convention: plain words on topics of its own.
func TestHomeAssistantLock(t *testing.T) {
	mosquitto := mqtttest.Start(t)
	said := func(client paho.Client, text string, retained bool) {
		client.Publish("nuki/state", 1, retained, text).WaitTimeout(20 * time.Second)
	}
	var mu sync.Mutex
	answers := map[string][]string{"UNLOCK": {"UNLOCKING", "UNLOCKED"}, "LOCK": {"LOCKING", "LOCKED"}}
	z := mosquitto.Client("nuki", map[string]paho.MessageHandler{"nuki/command": func(client paho.Client, msg paho.Message) {
		mu.Lock()
		defer mu.Unlock()
		for _, text := range answers[string(msg.Payload())] {
			said(client, text, true)
		}
	}})
	said(z, "LOCKED", true)
	m, signals, _ := connect(t, MQTTConfig{
		Broker: broker(t, mosquitto, mqtttest.User, mqtttest.Password), Roots: mosquitto.Roots, Convention: HomeAssistant,
		Topics: Topics{State: "nuki/state", Command: "nuki/command", Availability: "nuki/status"},
	})
	soon(t, m.stands)
	soon(t, func() (string, string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.lock.bolt.String(), "locked"
	})
	for _, move := range []func(context.Context) error{m.Unlock, m.Lock, m.Unlock, m.Lock} {
		if err := move(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	answers["UNLOCK"] = []string{"LOCKED"}
	mu.Unlock()
	if err := m.Unlock(within(t, 300*time.Millisecond)); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a state that did not change: %v", err)
	}
	mu.Lock()
	answers["UNLOCK"] = []string{"UNLOCKING", "JAMMED"}
	mu.Unlock()
	if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("jammed: %v", err)
	}
	wants(t, <-signals, Jammed)
	z.Publish("nuki/status", 1, false, "offline").WaitTimeout(20 * time.Second)
	wants(t, <-signals, Unavailable)
}

func TestMQTTConfig(t *testing.T) {
	b := Broker{addr: "127.0.0.1:1", topic: "home/zigbee/lobby"}
	for name, change := range map[string]func(*MQTTConfig){
		"no broker": func(c *MQTTConfig) { c.Broker = Broker{} }, "no client": func(c *MQTTConfig) { c.Client = "" },
		"a contact for all": func(c *MQTTConfig) { c.Contact = "#" }, "a state for all": func(c *MQTTConfig) { c.Topics.State = "x/+" },
		"a command for all": func(c *MQTTConfig) { c.Topics.Command = "+" }, "an availability for all": func(c *MQTTConfig) { c.Topics.Availability = "#" },
		"a readback for all": func(c *MQTTConfig) { c.Topics.Readback = "a/#" },
	} {
		c := MQTTConfig{Broker: b, Client: "x", Log: discard()}
		change(&c)
		if _, err := NewMQTT(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	m, err := NewMQTT(MQTTConfig{Broker: b, Client: "x", Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, m.Topics, Topics{State: "home/zigbee/lobby", Command: "home/zigbee/lobby/set", Readback: "home/zigbee/lobby/get", Availability: "home/zigbee/lobby/availability"})
	wants(t, fmt.Sprint(m.bridges()), "[home/bridge/state home/zigbee/bridge/state]")
	m, err = NewMQTT(MQTTConfig{Broker: b, Client: "x", Log: discard(), Convention: HomeAssistant})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, m.Topics, Topics{State: "home/zigbee/lobby/state", Command: "home/zigbee/lobby/set", Availability: "home/zigbee/lobby/availability"})
	var c Convention
	if err := c.UnmarshalText([]byte("zwave")); err == nil {
		t.Error("a convention that is none")
	}
}
