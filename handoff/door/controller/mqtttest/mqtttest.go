// Package mqtttest starts a real Mosquitto for tests, with TLS and passwords, and plays
// the locks behind it as zigbee2mqtt shows them.
//
// Its functions report failure through the test they belong to.
package mqtttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// The user that doors are at the broker, and the password of all its users.
const (
	User     = "door"
	Password = "correct-horse"

	bridge  = "zigbee" // the user that zigbee2mqtt is
	within  = 20 * time.Second
	writing = time.Second // for one message to reach the connection
)

// Broker is a Mosquitto on a loopback port of its own.
type Broker struct {
	Roots *x509.CertPool // by which its certificate is known

	tb      testing.TB
	program string
	dir     string
	port    string
	cmd     *exec.Cmd
}

// Start starts a broker, which ends with the test. Where there is no Mosquitto, the test
// is skipped, so that a laptop can run the rest, and fails where a silent skip would hide
// that nothing was proven: when CI=true or LATCHKEY_REAL=required.
func Start(tb testing.TB) *Broker {
	tb.Helper()
	b := &Broker{tb: tb, program: require(tb), dir: tb.TempDir()}
	b.certify()
	b.run("mosquitto_passwd", "-b", "-c", b.path("passwords"), User, Password)
	b.run("mosquitto_passwd", "-b", b.path("passwords"), bridge, Password)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b.port = strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	_ = ln.Close()
	conf := fmt.Sprintf(`
listener %s 127.0.0.1
certfile %s
keyfile %s
allow_anonymous false
password_file %s
persistence false
`, b.port, b.CA(), b.path("key.pem"), b.path("passwords"))
	if os.Getuid() == 0 { // it would else become a user who may not look into the test's folder
		conf += "user root\n"
	}
	b.write("mosquitto.conf", []byte(conf))
	b.Restart()
	tb.Cleanup(b.Stop)
	return b
}

func require(tb testing.TB) string {
	tb.Helper()
	for _, path := range []string{"mosquitto", "/usr/sbin/mosquitto"} { // sbin is not in every user's PATH
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	const missing = "mosquitto is not in PATH (Debian: apt-get install mosquitto)"
	if os.Getenv("CI") == "true" || os.Getenv("LATCHKEY_REAL") == "required" {
		tb.Fatal(missing)
	}
	tb.Skip(missing)
	return ""
}

func (b *Broker) path(name string) string { return filepath.Join(b.dir, name) }

func (b *Broker) write(name string, content []byte) {
	if err := os.WriteFile(b.path(name), content, 0o600); err != nil {
		b.tb.Fatal(err)
	}
}

func (b *Broker) run(program string, args ...string) {
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		b.tb.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (b *Broker) certify() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.tb.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.tb.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	b.write("cert.pem", cert)
	b.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	b.Roots = x509.NewCertPool()
	b.Roots.AppendCertsFromPEM(cert)
}

// CA is the file of the certificate authority, PEM.
func (b *Broker) CA() string { return b.path("cert.pem") }

// URL is how a door that is a user of the broker names a lock's topic.
func (b *Broker) URL(user, password, topic string) string {
	return "mqtts://" + user + ":" + password + "@127.0.0.1:" + b.port + "/" + topic
}

// Restart starts the broker after Stop, on its port.
func (b *Broker) Restart() {
	b.tb.Helper()
	b.cmd = exec.Command(b.program, "-c", b.path("mosquitto.conf"))
	var log lockedBuffer
	b.cmd.Stdout, b.cmd.Stderr = &log, &log
	if err := b.cmd.Start(); err != nil {
		b.tb.Fatal(err)
	}
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+b.port, &tls.Config{RootCAs: b.Roots, MinVersion: tls.VersionTLS12})
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			b.tb.Fatalf("mosquitto: %v\n%s", err, log.String())
		}
	}
}

// Stop kills the broker: its clients are told nothing.
func (b *Broker) Stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Lock is a lock as zigbee2mqtt shows it: told on zigbee2mqtt/NAME/set, it tells its state
// on zigbee2mqtt/NAME, and again when it is asked on zigbee2mqtt/NAME/get. It writes down
// what it was told. At first it is locked.
type Lock struct {
	tb     testing.TB
	topic  string
	client paho.Client

	mu       sync.Mutex
	told     []string
	asked    int
	state    string // where the bolt stands: LOCK or UNLOCK
	answer   func(state string) string
	readback func(state string) string
}

// Lock connects a lock, which is [Honest] until it is told otherwise.
func (b *Broker) Lock(name string) *Lock {
	b.tb.Helper()
	l := &Lock{tb: b.tb, topic: "zigbee2mqtt/" + name, state: "LOCK", answer: Honest, readback: Honest}
	l.client = b.Client("zigbee2mqtt-"+name, map[string]paho.MessageHandler{l.topic + "/set": l.set, l.topic + "/get": l.get})
	return l
}

// Client connects a client as the user that the bridge is, and waits until it has
// subscribed. It ends with the test.
func (b *Broker) Client(id string, topics map[string]paho.MessageHandler) paho.Client {
	b.tb.Helper()
	subscribed := make(chan struct{}, 1)
	var ended atomic.Bool
	var handling sync.RWMutex // held for reading by each handler, so that none outlives the test
	client := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://127.0.0.1:" + b.port).
		SetClientID(id).SetUsername(bridge).SetPassword(Password).
		SetTLSConfig(&tls.Config{RootCAs: b.Roots, MinVersion: tls.VersionTLS12}).
		SetOrderMatters(false).SetMaxReconnectInterval(100 * time.Millisecond).
		SetWriteTimeout(writing). // by default a message waits 30 s for a connection that has ended
		SetOnConnectHandler(func(c paho.Client) {
			for topic, handle := range topics {
				c.Subscribe(topic, 1, func(c paho.Client, msg paho.Message) {
					handling.RLock()
					defer handling.RUnlock()
					if !ended.Load() {
						handle(c, msg)
					}
				}).Wait()
			}
			select {
			case subscribed <- struct{}{}:
			default:
			}
		}))
	if t := client.Connect(); !t.WaitTimeout(within) || t.Error() != nil {
		b.tb.Fatal("the zigbee side: ", t.Error())
	}
	b.tb.Cleanup(func() {
		ended.Store(true)
		client.Disconnect(100)
		handling.Lock()
		defer handling.Unlock()
	})
	<-subscribed
	return client
}

// Honest is the message of a lock that stands where state says.
func Honest(state string) string {
	bolt := map[string]string{"UNLOCK": "unlocked", "LOCK": "locked"}[state]
	return fmt.Sprintf(`{"state":%q,"lock_state":%q,"battery":97}`, state, bolt)
}

func (l *Lock) set(_ paho.Client, msg paho.Message) {
	var command struct{ State string }
	if err := json.Unmarshal(msg.Payload(), &command); err != nil {
		l.tb.Errorf("told %q", msg.Payload())
	}
	if msg.Qos() != 0 || msg.Retained() {
		l.tb.Error("a movement was told in a way in which a broker keeps it for later")
	}
	l.mu.Lock()
	l.told = append(l.told, command.State)
	answer := l.answer
	l.mu.Unlock()
	said := answer(command.State)
	if said == Honest(command.State) {
		l.mu.Lock()
		l.state = command.State
		l.mu.Unlock()
	}
	if said != "" {
		l.Publish(l.topic, false, said)
	}
}

func (l *Lock) get(_ paho.Client, msg paho.Message) {
	if string(msg.Payload()) != `{"state":""}` {
		l.tb.Errorf("asked %q", msg.Payload())
	}
	l.mu.Lock()
	l.asked++
	said := l.readback(l.state)
	l.mu.Unlock()
	if said != "" {
		l.Publish(l.topic, false, said)
	}
}

// Publish sends a message of the zigbee side, on any topic.
func (l *Lock) Publish(topic string, retained bool, message string) {
	l.client.Publish(topic, 1, retained, message).WaitTimeout(within)
}

// Answer sets what the lock says when it was told UNLOCK or LOCK; empty for nothing. It
// may take its time. The bolt moves only where the answer is the [Honest] one.
func (l *Lock) Answer(f func(state string) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = f
}

// Readback sets what the lock says when it is asked where it stands; empty for nothing.
// State is where its bolt is: LOCK or UNLOCK.
func (l *Lock) Readback(f func(state string) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readback = f
}

// Move moves the bolt, as a hand does: without a word.
func (l *Lock) Move(state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
}

// Told is every command that arrived so far: "UNLOCK LOCK".
func (l *Lock) Told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.told, " ")
}

// Asked is how often the lock was asked where it stands.
func (l *Lock) Asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}
