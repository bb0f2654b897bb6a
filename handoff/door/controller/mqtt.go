package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Broker is an MQTT server and a lock's topic there:
// mqtts://USER:PASSWORD@HOST[:PORT]/TOPIC, or mqtt:// to this very machine. It prints
// without the password.
type Broker struct {
	addr, user, password string
	tls                  bool
	topic                string // such as zigbee2mqtt/lobby
}

// UnmarshalText reads the form for flags. The error never repeats the text.
func (b *Broker) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("not mqtts://USER:PASSWORD@HOST[:PORT]/TOPIC")
	}
	port := "8883"
	switch {
	case u.Scheme == "mqtts":
	case u.Scheme == "mqtt" && isLoopback(u.Hostname()):
		port = "1883"
	default:
		return errors.New("a broker is mqtts://, or mqtt:// on this very machine: nobody may read or write to a lock on the way")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	topic := strings.TrimPrefix(u.Path, "/")
	if err := checkTopic(topic); err != nil {
		return err
	}
	password, _ := u.User.Password()
	*b = Broker{addr: net.JoinHostPort(u.Hostname(), port), user: u.User.Username(), password: password, tls: u.Scheme == "mqtts", topic: topic}
	return nil
}

func checkTopic(topic string) error {
	if topic == "" || strings.ContainsAny(topic, "+#\x00") {
		return errors.New("a topic is one device's, such as zigbee2mqtt/lobby")
	}
	return nil
}

// IsZero reports whether b is no broker.
func (b Broker) IsZero() bool { return b.addr == "" }

// String is the broker without its password.
func (b Broker) String() string {
	scheme := "mqtt://"
	if b.tls {
		scheme = "mqtts://"
	}
	return scheme + b.addr + "/" + b.topic
}

// GoString is String, for %#v prints unexported fields too.
func (b Broker) GoString() string { return b.String() }

// LogValue is String.
func (b Broker) LogValue() slog.Value { return slog.StringValue(b.String()) }

// MQTT is a lock behind zigbee2mqtt, and the sensors beside it: it publishes
// {"state": "UNLOCK"} or {"state": "LOCK"} to TOPIC/set, and the lock has confirmed when
// its own message on TOPIC says so: {"state": "UNLOCK", "lock_state": "unlocked"}.
// Messages on TOPIC and on the contact's topic may also tell {"contact": true} (closed)
// and {"tamper": true}.
//
// Nothing is published unless the connection stands, and with QoS 0 and a clean session,
// so that no broker and no library keeps an "unlock" and delivers it later.
type MQTT struct {
	broker  Broker
	contact string
	log     *slog.Logger
	client  paho.Client

	mu         sync.Mutex
	subscribed bool          // on the connection that stands
	up         chan struct{} // closed when subscribed becomes true
	waiting    *expectation
	tell       func(Signal) // nil: nobody watches
	tampered   map[string]bool
}

// expectation is the state that an action waits for.
type expectation struct {
	state string
	met   chan struct{}
}

// MQTTConfig is what NewMQTT needs.
type MQTTConfig struct {
	Broker  Broker
	Contact string         // the topic of a door contact; empty for none but the lock's own
	Roots   *x509.CertPool // nil: the system's
	Client  string         // the client id: one per connection to the broker
	Log     *slog.Logger
}

// NewMQTT makes a lock. It connects when it is watched.
func NewMQTT(c MQTTConfig) (*MQTT, error) {
	if c.Broker.IsZero() || c.Client == "" || c.Log == nil {
		return nil, errors.New("controller: MQTT needs a broker, a client id and a log")
	}
	if c.Contact != "" {
		if err := checkTopic(c.Contact); err != nil {
			return nil, err
		}
	}
	m := &MQTT{broker: c.Broker, contact: c.Contact, log: c.Log, up: make(chan struct{}), tampered: make(map[string]bool)}
	scheme := "tcp://"
	if c.Broker.tls {
		scheme = "ssl://"
	}
	m.client = paho.NewClient(paho.NewClientOptions().
		AddBroker(scheme + c.Broker.addr).
		SetClientID(c.Client).SetUsername(c.Broker.user).SetPassword(c.Broker.password).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots}).
		SetProtocolVersion(4).SetCleanSession(true).
		SetAutoReconnect(true).SetMaxReconnectInterval(lastRetry).
		SetConnectTimeout(10 * time.Second).SetWriteTimeout(5 * time.Second).
		SetKeepAlive(15 * time.Second).SetPingTimeout(5 * time.Second).
		SetOnConnectHandler(m.connected).
		SetConnectionNotificationHandler(func(_ paho.Client, n paho.ConnectionNotification) {
			if failed, ok := n.(paho.ConnectionNotificationFailed); ok {
				m.log.Warn("the broker cannot be reached", "broker", m.broker, "error", failed.Reason)
			}
		}).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			m.mu.Lock()
			m.subscribed = false
			m.mu.Unlock()
			m.log.Warn("the connection to the broker broke", "broker", m.broker, "error", err)
		}))
	return m, nil
}

// Watch connects, tells what the sensors say, and disconnects when ctx ends. The lock
// moves only while it runs.
func (m *MQTT) Watch(ctx context.Context, tell func(Signal)) {
	m.mu.Lock()
	m.tell = tell
	m.mu.Unlock()
	// Until the first success we try ourselves: the library's own tries cannot be stopped.
	for failures := 1; ; failures++ {
		t := m.client.Connect()
		if <-t.Done(); t.Error() == nil {
			break
		}
		if !pause(ctx, backoff(failures)) {
			return
		}
	}
	<-ctx.Done()
	m.client.Disconnect(250) // milliseconds for what is on its way
}

func (m *MQTT) connected(client paho.Client) {
	topics := map[string]byte{m.broker.topic: 1}
	if m.contact != "" {
		topics[m.contact] = 1
	}
	t := client.SubscribeMultiple(topics, m.received)
	if !t.WaitTimeout(10*time.Second) || t.Error() != nil {
		m.log.Error("the broker does not let the door read its lock's topic", "broker", m.broker, "error", t.Error())
		return
	}
	for topic, granted := range t.(*paho.SubscribeToken).Result() {
		if granted == 0x80 { // MQTT 3.1.1 section 3.9.3: failure
			m.log.Error("the broker does not let the door read a topic", "broker", m.broker, "topic", topic)
			return
		}
	}
	m.mu.Lock()
	m.subscribed = true
	close(m.up)
	m.up = make(chan struct{})
	m.mu.Unlock()
	m.log.Info("connected to the broker", "broker", m.broker)
}

// device is what a device's message may say, as far as a door cares.
type device struct {
	State     string `json:"state"`
	LockState string `json:"lock_state"`
	Contact   *bool  `json:"contact"`
	Tamper    *bool  `json:"tamper"`
}

const maxDevice = 16 << 10 // bytes of a device's message

func (m *MQTT) received(_ paho.Client, msg paho.Message) {
	var d device
	if len(msg.Payload()) > maxDevice || json.Unmarshal(msg.Payload(), &d) != nil {
		return // "online" and the like; a foreign message must not fill the log
	}
	m.mu.Lock()
	// A retained message is old: it says nothing of what was just asked for.
	if w := m.waiting; w != nil && msg.Topic() == m.broker.topic && !msg.Retained() && d.says(w.state) {
		close(w.met)
		m.waiting = nil
	}
	tell := m.tell
	rising := d.Tamper != nil && *d.Tamper && !m.tampered[msg.Topic()]
	if d.Tamper != nil {
		m.tampered[msg.Topic()] = *d.Tamper
	}
	m.mu.Unlock()
	if d.Contact != nil {
		tell(map[bool]Signal{true: ContactClosed, false: ContactOpen}[*d.Contact])
	}
	if rising {
		tell(Tampered)
	}
}

var boltStates = map[string]string{"UNLOCK": "unlocked", "LOCK": "locked"}

// says reports whether the lock says that it is in a state. A bolt that stopped halfway
// is in neither, whatever state says.
func (d *device) says(state string) bool {
	return d.State == state && (d.LockState == "" || d.LockState == boltStates[state])
}

// Unlock publishes UNLOCK and waits for the lock's word.
func (m *MQTT) Unlock(ctx context.Context) error { return m.set(ctx, "UNLOCK") }

// Lock publishes LOCK and waits for the lock's word. Unlike an unlocking, which must not
// come when nobody expects it any more, it waits for the connection: a controller that
// was just started has none yet, and may find its lock unlocked.
func (m *MQTT) Lock(ctx context.Context) error {
	for {
		m.mu.Lock()
		up := m.up
		m.mu.Unlock()
		if err := m.set(ctx, "LOCK"); !errors.Is(err, errNotConnected) {
			return err
		}
		select {
		case <-up:
		case <-ctx.Done():
			return errNotConnected
		}
	}
}

var errNotConnected = errors.New("no connection to the broker")

func (m *MQTT) set(ctx context.Context, state string) error {
	e := &expectation{state, make(chan struct{})}
	m.mu.Lock()
	stands := m.subscribed && m.client.IsConnectionOpen()
	if stands {
		m.waiting = e
	}
	m.mu.Unlock()
	if !stands {
		return errNotConnected
	}
	defer func() {
		m.mu.Lock()
		if m.waiting == e {
			m.waiting = nil
		}
		m.mu.Unlock()
	}()
	t := m.client.Publish(m.broker.topic+"/set", 0, false, `{"state":"`+state+`"}`)
	select {
	case <-t.Done():
		if err := t.Error(); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-e.met:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the lock did not say %s: %w", state, ctx.Err())
	}
}
