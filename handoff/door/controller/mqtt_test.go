package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// mosquitto is a real broker with TLS and a password, on a port of its own.
type mosquitto struct {
	t       testing.TB
	program string
	dir     string
	port    string
	roots   *x509.CertPool
	cmd     *exec.Cmd
}

const brokerPassword = "correct-horse"

// missing skips the test for want of what a real broker needs, so that a laptop can run
// the rest, and fails it where a silent skip would hide that nothing was proven.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" || os.Getenv("LATCHKEY_REAL") == "required" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func newMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, dir: t.TempDir()}
	for _, path := range []string{"mosquitto", "/usr/sbin/mosquitto"} { // sbin is not in everybody's PATH
		if found, err := exec.LookPath(path); err == nil {
			m.program = found
		}
	}
	if m.program == "" {
		missing(t, "mosquitto is not in PATH (Debian: apt-get install mosquitto)")
	}
	m.certify()
	m.run("mosquitto_passwd", "-b", "-c", m.path("passwords"), "door", brokerPassword)
	m.run("mosquitto_passwd", "-b", m.path("passwords"), "zigbee", brokerPassword)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	_ = ln.Close()
	m.write("mosquitto.conf", fmt.Sprintf(`
listener %s 127.0.0.1
certfile %s
keyfile %s
allow_anonymous false
password_file %s
persistence false
`, m.port, m.path("cert.pem"), m.path("key.pem"), m.path("passwords")))
	if os.Getuid() == 0 { // it would else become a user who may not look into the test's folder
		m.write("mosquitto.conf", m.read("mosquitto.conf")+"user root\n")
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) path(name string) string { return filepath.Join(m.dir, name) }

func (m *mosquitto) write(name, content string) {
	if err := os.WriteFile(m.path(name), []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mosquitto) read(name string) string {
	content, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(content)
}

func (m *mosquitto) run(program string, args ...string) {
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (m *mosquitto) certify() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		m.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	m.write("cert.pem", string(cert))
	m.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	m.roots = x509.NewCertPool()
	m.roots.AppendCertsFromPEM(cert)
}

func (m *mosquitto) start() {
	m.cmd = exec.Command(m.program, "-c", m.path("mosquitto.conf"))
	var log journal
	m.cmd.Stdout, m.cmd.Stderr = &log, &log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+m.port, &tls.Config{RootCAs: m.roots, MinVersion: tls.VersionTLS12})
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("mosquitto: %v\n%s", err, log.String())
		}
	}
}

func (m *mosquitto) stop() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

func (m *mosquitto) broker(user, password string) (b Broker) {
	if err := b.UnmarshalText([]byte("mqtts://" + user + ":" + password + "@127.0.0.1:" + m.port + "/zigbee2mqtt/lobby")); err != nil {
		m.t.Fatal(err)
	}
	return b
}

// zigbee is a lock as zigbee2mqtt shows it: told on .../set, it tells its state.
type zigbee struct {
	t      testing.TB
	client paho.Client

	mu      sync.Mutex
	told    []string
	answers func(state string) string // the lock's message, or none
}

func (m *mosquitto) zigbee() *zigbee {
	z := &zigbee{t: m.t, answers: honest}
	z.client = paho.NewClient(paho.NewClientOptions().AddBroker("ssl://127.0.0.1:" + m.port).
		SetClientID("zigbee2mqtt").SetUsername("zigbee").SetPassword(brokerPassword).
		SetTLSConfig(&tls.Config{RootCAs: m.roots, MinVersion: tls.VersionTLS12}).
		SetOrderMatters(false).SetMaxReconnectInterval(100 * time.Millisecond).
		SetOnConnectHandler(func(c paho.Client) {
			c.Subscribe("zigbee2mqtt/lobby/set", 1, z.set).Wait()
		}))
	z.must(z.client.Connect())
	m.t.Cleanup(func() { z.client.Disconnect(100) })
	return z
}

func honest(state string) string {
	return fmt.Sprintf(`{"state":%q,"lock_state":%q,"battery":97}`, state, boltStates[state])
}

func (z *zigbee) must(t paho.Token) {
	z.t.Helper()
	if !t.WaitTimeout(20*time.Second) || t.Error() != nil {
		z.t.Fatal("the zigbee side: ", t.Error())
	}
}

func (z *zigbee) set(_ paho.Client, msg paho.Message) {
	var d device
	if err := json.Unmarshal(msg.Payload(), &d); err != nil {
		z.t.Errorf("told %q", msg.Payload())
	}
	if msg.Qos() != 0 || msg.Retained() {
		z.t.Error("a movement was told in a way in which a broker keeps it for later")
	}
	z.mu.Lock()
	z.told = append(z.told, d.State)
	answer := z.answers(d.State)
	z.mu.Unlock()
	if answer != "" {
		z.publish("zigbee2mqtt/lobby", false, answer)
	}
}

func (z *zigbee) publish(topic string, retained bool, message string) {
	z.client.Publish(topic, 1, retained, message).WaitTimeout(20 * time.Second)
}

func (z *zigbee) answer(f func(string) string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.answers = f
}

func (z *zigbee) wasTold() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return strings.Join(z.told, " ")
}

// retained is a message on the lock's topic that the broker kept.
type retained struct{ payload []byte }

func (r retained) Payload() []byte { return r.payload }
func (retained) Topic() string     { return "zigbee2mqtt/lobby" }
func (retained) Retained() bool    { return true }
func (retained) Duplicate() bool   { return false }
func (retained) Qos() byte         { return 1 }
func (retained) MessageID() uint16 { return 1 }
func (retained) Ack()              {}

// connect makes a lock on the broker and waits until it may be moved.
func connect(t testing.TB, c MQTTConfig) (*MQTT, chan Signal, *journal) {
	t.Helper()
	log := &journal{}
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
	mosquitto := newMosquitto(t)
	z := mosquitto.zigbee()
	// What the broker remembers from yesterday confirms nothing; where the contact stands, it tells.
	z.publish("zigbee2mqtt/lobby", true, `{"state":"UNLOCK","lock_state":"unlocked","contact":true}`)
	z.publish("zigbee2mqtt/contact", true, `{"contact":true,"tamper":false}`)
	m, signals, log := connect(t, MQTTConfig{Broker: mosquitto.broker("door", brokerPassword), Contact: "zigbee2mqtt/contact", Roots: mosquitto.roots})
	soon(t, m.stands)
	wants(t, <-signals, ContactClosed)
	wants(t, <-signals, ContactClosed)

	for _, move := range []func(context.Context) error{m.Unlock, m.Lock, m.Unlock, m.Unlock, m.Lock} {
		if err := move(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, z.wasTold(), "UNLOCK LOCK UNLOCK UNLOCK LOCK")

	t.Run("not confirmed", func(t *testing.T) {
		for name, answer := range map[string]string{
			"silent":         "",
			"the other":      honest("LOCK"),
			"stuck halfway":  `{"state":"UNLOCK","lock_state":"not_fully_locked"}`,
			"only a battery": `{"battery":3}`,
			"not JSON":       "online",
			"another type":   `{"state":true}`,
			"giant":          `{"state":"UNLOCK","x":"` + strings.Repeat("x", maxDevice) + `"}`,
		} {
			z.answer(func(string) string { return answer })
			if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
				t.Errorf("%s: confirmed", name)
			}
		}
		z.answer(func(string) string {
			z.client.Publish("zigbee2mqtt/contact", 1, false, honest("UNLOCK"))
			return ""
		})
		if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
			t.Error("confirmed by another device")
		}
		z.answer(honest)
		if err := m.Unlock(within(t, 20*time.Second)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})

	// A connection that breaks and comes back brings the retained message anew.
	t.Run("an old message", func(t *testing.T) {
		z.answer(func(string) string {
			m.received(m.client, retained{[]byte(honest("UNLOCK"))})
			return ""
		})
		if err := m.Unlock(within(t, 300*time.Millisecond)); err == nil {
			t.Error("confirmed by what the broker remembered")
		}
		z.answer(honest)
	})

	t.Run("sensors", func(t *testing.T) {
		for len(signals) > 0 {
			<-signals
		}
		z.publish("zigbee2mqtt/contact", false, `{"contact":false}`)
		wants(t, <-signals, ContactOpen)
		z.publish("zigbee2mqtt/contact", false, `{"contact":true,"tamper":true}`)
		wants(t, <-signals, ContactClosed)
		wants(t, <-signals, Tampered)
		z.publish("zigbee2mqtt/contact", false, `{"tamper":true}`) // still the same
		z.publish("zigbee2mqtt/contact", false, `{"tamper":false}`)
		z.publish("zigbee2mqtt/contact", false, `{"tamper":true}`)
		wants(t, <-signals, Tampered)
		wants(t, len(signals), 0)
	})

	t.Run("the broker is away", func(t *testing.T) {
		before := z.wasTold()
		mosquitto.stop()
		soon(t, func() (string, string) { got, _ := m.stands(); return got, "false" })
		if err := m.Unlock(within(t, 20*time.Second)); !errors.Is(err, errNotConnected) {
			t.Errorf("without a broker: %v", err)
		}
		mosquitto.start()
		soon(t, m.stands)
		if err := m.Lock(within(t, 20*time.Second)); err != nil {
			t.Errorf("after the broker came back: %v", err)
		}
		// What was asked for while it was away was not kept for later.
		wants(t, z.wasTold(), before+" LOCK")
	})
	if strings.Contains(log.String(), brokerPassword) {
		t.Error("the log holds the password")
	}
}

func TestMQTTTrustsNoStranger(t *testing.T) {
	mosquitto := newMosquitto(t)
	for name, c := range map[string]MQTTConfig{
		"wrong password":      {Broker: mosquitto.broker("door", "guess"), Roots: mosquitto.roots},
		"unknown certificate": {Broker: mosquitto.broker("door", brokerPassword)},
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
	mosquitto := newMosquitto(t)
	z := mosquitto.zigbee()
	lock, err := NewMQTT(MQTTConfig{
		Broker: mosquitto.broker("door", brokerPassword), Contact: "zigbee2mqtt/contact", Roots: mosquitto.roots,
		Client: "latchkey-" + theDoor, Log: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newSite(t).run(t, nil, func(c *Config) {
		c.Opener, c.Watch, c.Relock = lock, []Watch{lock.Watch}, 300*time.Millisecond
	})
	soon(t, lock.stands)
	z.publish("zigbee2mqtt/contact", false, `{"contact":true}`)
	_, permit := r.permit(t, nil)
	wants(t, r.ask(permit), Answer{Result: "opened"})
	z.publish("zigbee2mqtt/contact", false, `{"contact":false}`)
	z.publish("zigbee2mqtt/contact", false, `{"contact":true}`)
	soon(t, func() (string, string) { return z.wasTold(), "UNLOCK LOCK" })
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
