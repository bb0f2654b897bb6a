package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

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
			"giant":          `{"state":"UNLOCK","x":"` + strings.Repeat("x", maxDevice) + `"}`,
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
		z.Answer(func(string) string {
			m.received(m.client, retained{[]byte(mqtttest.Honest("UNLOCK"))})
			return ""
		})
		if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
			t.Error("confirmed by what the broker remembered")
		}
		z.Answer(mqtttest.Honest)
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
