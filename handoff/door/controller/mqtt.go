package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
// mqtts://USER:PASSWORD@HOST[:PORT]/TOPIC, or mqtt:// to this machine alone; the port is 8883,
// or 1883. It prints without the password.
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
		return errors.New("a broker is mqtts://, or mqtt:// on this machine alone: a lock's messages must not be read or changed on the way")
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

// MQTT is a lock behind a broker, and the sensors beside it, in one of two conventions
// (see [Convention]). When a movement counts as confirmed stands at lockView; otherwise the
// error wraps [ErrNoAnswer], or says what the lock said instead.
//
// In zigbee2mqtt's convention messages on TOPIC and on the contact's topic may also tell of
// a door contact ({"contact": true} is closed, {"door_state": "open"}), of tampering
// ({"tamper": true}), of a door that jams or was forced open ({"door_state":
// "error_jammed"}, "error_forced_open"), and of a battery ({"battery": 14}, {"battery_low":
// true}). In both, TOPIC/availability may tell that the lock cannot be reached, and
// BASE/bridge/state that zigbee2mqtt itself is away.
//
// Nothing is published unless the connection stands, and with QoS 0 and a clean session,
// so that no broker and no library keeps an "unlock" and delivers it later.
type MQTT struct {
	MQTTConfig
	client paho.Client

	mu         sync.Mutex
	subscribed bool          // on the connection that stands
	up         chan struct{} // closed when subscribed becomes true
	tell       func(Signal)  // nil: nothing watches
	lock       lockView
	askAgain   chan struct{} // the lock answered once: the movement under way asks it again
	betweenFor *time.Timer   // runs while the bolt rests halfway
	devices    map[string]*device
	away       map[string]bool // what the lock cannot be reached without, by topic; "" is the broker
}

// device is what is known of a device that publishes on a topic, so that its news is told
// once.
type device struct {
	contact                  Signal
	tampered, jammed, forced bool
	low                      bool
}

// MQTTConfig is what NewMQTT needs. Broker, Client and Log must be given.
type MQTTConfig struct {
	Broker  Broker
	Contact string         // the topic of a door contact; empty for none but the lock's own
	Roots   *x509.CertPool // by which the broker is known; nil: the system's
	Client  string         // the client id: one per connection to the broker
	Log     *slog.Logger

	Convention Convention // empty: Zigbee2MQTT
	Topics     Topics

	// Readback is how long to wait before the lock is asked again where it stands; 0: 2 s.
	Readback time.Duration

	// Halfway is how long a bolt may rest halfway, without a command, before that is
	// reported as jammed; 0: 30 s.
	Halfway time.Duration
}

// Topics are those of a lock, where they differ from its convention's. An empty one is the
// convention's: below TOPIC, "set" and "availability" in both; the state is on TOPIC and
// the readback on TOPIC/get in zigbee2mqtt's, and the state on TOPIC/state in Home
// Assistant's, which has no readback unless Readback names a topic.
type Topics struct{ State, Command, Readback, Availability string }

const (
	defaultReadback = 2 * time.Second
	defaultHalfway  = 30 * time.Second
)

// NewMQTT makes a lock. It connects when it is watched. The error says which part of the
// configuration is missing or is no topic.
func NewMQTT(c MQTTConfig) (*MQTT, error) {
	if c.Broker.IsZero() || c.Client == "" || c.Log == nil {
		return nil, errors.New("controller: MQTT needs a broker, a client id and a log")
	}
	if c.Convention == "" {
		c.Convention = Zigbee2MQTT
	}
	state, readback := c.Broker.topic, c.Broker.topic+"/get"
	if c.Convention == HomeAssistant {
		state, readback = c.Broker.topic+"/state", ""
	}
	for topic, usual := range map[*string]string{
		&c.Topics.State: state, &c.Topics.Command: c.Broker.topic + "/set",
		&c.Topics.Readback: readback, &c.Topics.Availability: c.Broker.topic + "/availability",
	} {
		if *topic == "" {
			*topic = usual
		}
	}
	for _, topic := range []string{c.Contact, c.Topics.State, c.Topics.Command, c.Topics.Readback, c.Topics.Availability} {
		if topic == "" {
			continue
		}
		if err := checkTopic(topic); err != nil {
			return nil, err
		}
	}
	orDefault(&c.Readback, defaultReadback)
	orDefault(&c.Halfway, defaultHalfway)
	m := &MQTT{
		MQTTConfig: c, up: make(chan struct{}), askAgain: make(chan struct{}, 1),
		devices: make(map[string]*device), away: make(map[string]bool),
		lock: lockView{retainedIsState: c.Convention == HomeAssistant},
	}
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
				m.Log.Warn("the broker cannot be reached", "broker", m.Broker, "error", failed.Reason)
				m.setAway("", true)
			}
		}).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			m.mu.Lock()
			m.subscribed = false
			m.lock.disconnected()
			m.mu.Unlock()
			m.Log.Warn("the connection to the broker broke", "broker", m.Broker, "error", err)
			m.setAway("", true)
		}))
	return m, nil
}

// Watch connects, tells what the sensors say, and disconnects when ctx ends. The lock
// moves only while it runs.
func (m *MQTT) Watch(ctx context.Context, tell func(Signal)) {
	m.mu.Lock()
	m.tell = tell
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.betweenFor != nil {
			m.betweenFor.Stop()
		}
	}()
	// Until the first success the tries are made here: the library's own cannot be stopped.
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

// connected subscribes, and asks the lock where it stands: what it said before is not known
// to this connection.
func (m *MQTT) connected(client paho.Client) {
	topics := map[string]byte{m.Topics.State: 1}
	if m.Contact != "" {
		topics[m.Contact] = 1
	}
	for _, topic := range append(m.bridges(), m.Topics.Availability) {
		topics[topic] = 1
	}
	t := client.SubscribeMultiple(topics, m.received)
	if !t.WaitTimeout(10*time.Second) || t.Error() != nil {
		m.Log.Error("the broker does not let the door read its lock's topic", "broker", m.Broker, "error", t.Error())
		return
	}
	for topic, granted := range t.(*paho.SubscribeToken).Result() {
		if granted != 0x80 { // MQTT 3.1.1 section 3.9.3: failure
			continue
		}
		if topic != m.Topics.State && topic != m.Contact {
			m.Log.Warn("the broker does not let the door read whether its lock can be reached", "broker", m.Broker, "topic", topic)
			continue
		}
		m.Log.Error("the broker does not let the door read a topic", "broker", m.Broker, "topic", topic)
		return
	}
	m.mu.Lock()
	m.subscribed = true
	close(m.up)
	m.up = make(chan struct{})
	m.mu.Unlock()
	m.Log.Info("connected to the broker", "broker", m.Broker)
	m.setAway("", false)
	m.readBack(nil)
}

// bridges are the topics on which zigbee2mqtt may say that it runs. Its base topic is some
// beginning of the lock's topic, because both may hold slashes.
func (m *MQTT) bridges() (topics []string) {
	if m.Convention != Zigbee2MQTT {
		return nil
	}
	for i, r := range m.Broker.topic {
		if r == '/' && i > 0 {
			topics = append(topics, m.Broker.topic[:i]+"/bridge/state")
		}
	}
	return topics
}

const maxMessage = 16 << 10 // bytes of a device's message

// received takes a message of any topic. What cannot be read is dropped, and not logged: a
// foreign message must not fill the log.
func (m *MQTT) received(_ paho.Client, msg paho.Message) {
	topic, payload := msg.Topic(), msg.Payload()
	if len(payload) > maxMessage {
		return
	}
	if topic == m.Topics.Availability || strings.HasSuffix(topic, "/bridge/state") && topic != m.Topics.State {
		m.available(topic, payload)
		return
	}
	read := readZigbee
	if topic == m.Topics.State && m.Convention == HomeAssistant {
		read = readPlain
	}
	said, ok := read(payload)
	if !ok {
		return
	}
	m.mu.Lock()
	ask := false
	if topic == m.Topics.State {
		ask = m.lock.observe(said, msg.Retained())
		m.watchBolt()
	}
	news := m.newsOf(topic, &said)
	m.mu.Unlock()
	if ask {
		signal(m.askAgain)
	}
	if said.action != "" && !msg.Retained() {
		m.Log.Info("the lock was used", "topic", topic, "action", said.action)
	}
	m.tellAll(news)
}

// newsOf is what a message says of a device that it did not say before. The mutex is held.
func (m *MQTT) newsOf(topic string, said *message) (news []Signal) {
	d := m.devices[topic]
	if d == nil {
		d = &device{}
		m.devices[topic] = d
	}
	// A bridge says everything again and again. What stands is told once, for two devices
	// that tell of the same door must not contradict each other for ever.
	rises := func(before, now *bool, s Signal) {
		if now == nil {
			return
		}
		if *now && !*before {
			news = append(news, s)
		}
		*before = *now
	}
	rises(&d.forced, said.forced, ForcedOpen) // ahead of the contact, which tells of it too
	if said.contact != 0 && said.contact != d.contact {
		d.contact = said.contact
		news = append(news, said.contact)
	}
	rises(&d.tampered, said.tamper, Tampered)
	rises(&d.jammed, said.jammed, Jammed)
	if said.battery == chargeLow || said.battery == chargeGood {
		low := said.battery == chargeLow
		rises(&d.low, &low, BatteryLow)
	}
	return news
}

// available takes what a topic says of the lock's or the bridge's availability.
func (m *MQTT) available(topic string, payload []byte) {
	online, ok := readAvailability(payload)
	if !ok {
		return
	}
	if m.setAway(topic, !online) {
		m.Log.Info("availability", "topic", topic, "online", online)
	}
}

// setAway notes that something without which the lock cannot be reached is away, or is back,
// and reports whether that changed. The first that is away is told.
func (m *MQTT) setAway(what string, away bool) (changed bool) {
	m.mu.Lock()
	before := len(m.away)
	if away {
		m.away[what] = true
	} else {
		delete(m.away, what)
	}
	now := len(m.away)
	m.mu.Unlock()
	if before == 0 && now > 0 {
		m.tellAll([]Signal{Unavailable})
	}
	return before != now
}

// watchBolt lets a bolt that rests halfway be told of after a while: on its way it is there
// too. The mutex is held.
func (m *MQTT) watchBolt() {
	between := m.lock.bolt == boltBetween
	switch {
	case between && m.betweenFor == nil:
		m.betweenFor = time.AfterFunc(m.Halfway, func() { m.tellAll([]Signal{Jammed}) })
	case !between && m.betweenFor != nil:
		m.betweenFor.Stop()
		m.betweenFor = nil
	}
}

// tellAll tells signals to the function that Watch was given, if there is one.
func (m *MQTT) tellAll(news []Signal) {
	m.mu.Lock()
	tell := m.tell
	m.mu.Unlock()
	for _, s := range news {
		if tell != nil {
			tell(s)
		}
	}
}

// Unlock tells the lock to unlock and waits until that is confirmed.
func (m *MQTT) Unlock(ctx context.Context) error { return m.move(ctx, boltUnlocked) }

// Lock tells the lock to lock and waits until that is confirmed. Unlike an unlocking, which
// must not come after the courier was told that it failed, it waits for the connection: a
// controller that was just started has none yet, and may find its lock unlocked.
func (m *MQTT) Lock(ctx context.Context) error {
	for {
		m.mu.Lock()
		up := m.up
		m.mu.Unlock()
		if err := m.move(ctx, boltLocked); !errors.Is(err, errNotConnected) {
			return err
		}
		select {
		case <-up:
		case <-ctx.Done():
			return errNotConnected
		}
	}
}

// errNotConnected says that the lock was told nothing.
var errNotConnected = errors.New("no connection to the broker")

// move tells the lock to move, and asks it where it stands until a movement is confirmed or
// ctx ends.
func (m *MQTT) move(ctx context.Context, want bolt) error {
	m.mu.Lock()
	stands := m.subscribed && m.client.IsConnectionOpen()
	var moving *movement
	if stands {
		moving = m.lock.begin(want)
		select { // what the last movement was told
		case <-m.askAgain:
		default:
		}
	}
	m.mu.Unlock()
	if !stands {
		return errNotConnected
	}
	defer func() {
		m.mu.Lock()
		m.lock.end(moving)
		m.mu.Unlock()
	}()
	if err := m.publish(ctx, m.Topics.Command, m.command(want)); err != nil {
		return err
	}
	again := time.NewTicker(m.Readback)
	defer again.Stop()
	for {
		m.readBack(moving)
		select {
		case <-moving.done:
			return nil
		case <-ctx.Done():
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.lock.failure(moving)
		case <-again.C:
		case <-m.askAgain:
		}
	}
}

// command is the message that tells the lock to move.
func (m *MQTT) command(want bolt) string {
	word := map[bolt]string{boltUnlocked: "UNLOCK", boltLocked: "LOCK"}[want]
	if m.Convention == HomeAssistant {
		return word
	}
	return `{"state":"` + word + `"}`
}

// question is the message that asks the lock where it stands.
func (m *MQTT) question() string {
	if m.Convention == HomeAssistant {
		return ""
	}
	return `{"state":""}`
}

// readBack asks the lock where it stands, for a movement or, without one, for what comes.
func (m *MQTT) readBack(moving *movement) {
	if m.Topics.Readback == "" {
		return
	}
	if moving != nil {
		m.mu.Lock()
		moving.asked++
		m.mu.Unlock()
	}
	// It is asked again if it does not answer, so that an error here is no more than that.
	m.client.Publish(m.Topics.Readback, 0, false, m.question())
}

// publish sends a message and waits until it is on its way. With QoS 0 and no connection
// there is nothing that could keep it for later.
func (m *MQTT) publish(ctx context.Context, topic, message string) error {
	t := m.client.Publish(topic, 0, false, message)
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
}
