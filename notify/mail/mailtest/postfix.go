package mailtest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Local parts that [Postfix] refuses at RCPT, at any domain.
const (
	TempFail = "tempfail" // 450 4.2.0, for ever
	Reject   = "reject"   // 550 5.1.1
)

// Local parts that [Postfix] knows where it is given [Bounces], at any domain.
const (
	Gone    = "gone"   // is accepted, and comes back with 5.1.1
	Bounced = "bounce" // with an extension behind a plus sign
)

// PostfixServer is a private instance of Postfix: its own configuration, queue and
// mailbox, and nothing of the system's.
type PostfixServer struct {
	tb        testing.TB
	master    string // path of master(8)
	dir       string
	port      int
	tls       bool
	bounces   []string // the program for what comes back; nil: none
	clientTLS *tls.Config

	cmd    *exec.Cmd     // nil while stopped
	guard  *exec.Cmd     // see startGuard
	exited chan struct{} // closed once master is gone and reaped
}

// Postfix starts a mail server on a free loopback port. It accepts mail for every
// domain and delivers all of it into one mailbox, which [PostfixServer.Messages]
// reads; nothing can leave the machine. [TempFail] and [Reject] are refused.
//
// Postfix changes users and so needs root. Without root or the program the test is
// skipped, but fails when CI=true or LATCHKEY_REAL=required.
func Postfix(tb testing.TB, opts ...Option) *PostfixServer {
	tb.Helper()
	p := &PostfixServer{tb: tb, master: requirePostfix(tb)}

	// Other users must get in, which tb.TempDir forbids.
	dir, err := os.MkdirTemp("", "postfix")
	if err != nil {
		tb.Fatalf("mailtest: %v", err)
	}
	p.dir = dir
	tb.Cleanup(func() {
		p.kill()
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("mailtest: %v", err)
		}
	})
	if err := p.layOut(); err != nil {
		tb.Fatalf("mailtest: %v", err)
	}
	p.bounces = apply(opts).bounces
	if apply(opts).startTLS {
		cert, clientTLS := selfSigned(tb)
		p.tls, p.clientTLS = true, clientTLS
		if err := p.writeCertificate(cert); err != nil {
			tb.Fatalf("mailtest: %v", err)
		}
	}
	for attempt := 1; ; attempt++ {
		// Below the ports that kernels hand to outgoing connections: a client's own
		// socket cannot sit on the port of a server that is stopped for a while.
		p.port = 10000 + rand.IntN(10000)
		err := p.portFree()
		if err == nil {
			err = p.configure()
		}
		if err == nil {
			err = p.start()
		}
		if err == nil {
			return p
		}
		if !errors.Is(err, errPortTaken) || attempt == 100 {
			tb.Fatalf("mailtest: start postfix: %v", err)
		}
	}
}

// requirePostfix returns the path of master(8).
func requirePostfix(tb testing.TB) string {
	tb.Helper()
	postconf, err := exec.LookPath("postconf")
	if err != nil {
		missing(tb, "postfix is not in PATH (Debian: apt-get install postfix)")
	}
	if os.Geteuid() != 0 {
		missing(tb, "postfix needs root")
	}
	out, err := exec.Command(postconf, "-d", "-h", "daemon_directory").Output()
	if err != nil {
		tb.Fatalf("mailtest: postconf: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "master")
}

func (p *PostfixServer) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// owner is whom a file belongs to.
type owner struct{ uid, gid int }

func lookUp(userName, groupName string) (owner, error) {
	u, err := user.Lookup(userName)
	if err != nil {
		return owner{}, err
	}
	gid := u.Gid
	if groupName != "" {
		g, err := user.LookupGroup(groupName)
		if err != nil {
			return owner{}, err
		}
		gid = g.Gid
	}
	var o owner
	var uidErr, gidErr error
	o.uid, uidErr = strconv.Atoi(u.Uid)
	o.gid, gidErr = strconv.Atoi(gid)
	return o, errors.Join(uidErr, gidErr)
}

// layOut makes the directories of an instance as postfix-files(5) lists them; the
// stock way, "postfix check", takes seconds.
func (p *PostfixServer) layOut() error {
	postfix, errPostfix := lookUp("postfix", "")
	postdrop, errPostdrop := lookUp("postfix", "postdrop")
	mailbox, errMailbox := lookUp(mailboxUser, "")
	if err := errors.Join(errPostfix, errPostdrop, errMailbox); err != nil {
		return err
	}
	root := owner{}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		mode os.FileMode
		owner
	}{
		{"conf", 0o755, root},
		{"data", 0o700, postfix},
		{"mail", 0o700, mailbox},
		{"queue", 0o755, root},
		{"queue/pid", 0o755, root},
		{"queue/active", 0o700, postfix},
		{"queue/bounce", 0o700, postfix},
		{"queue/corrupt", 0o700, postfix},
		{"queue/defer", 0o700, postfix},
		{"queue/deferred", 0o700, postfix},
		{"queue/flush", 0o700, postfix},
		{"queue/hold", 0o700, postfix},
		{"queue/incoming", 0o700, postfix},
		{"queue/private", 0o700, postfix},
		{"queue/saved", 0o700, postfix},
		{"queue/trace", 0o700, postfix},
		{"queue/maildrop", 0o730, postdrop},
		{"queue/public", 0o710, postdrop},
	} {
		name := p.path(d.name)
		err := os.Mkdir(name, d.mode)
		err = errors.Join(err, os.Chmod(name, d.mode), os.Chown(name, d.uid, d.gid)) // whatever the umask is
		if err != nil {
			return err
		}
	}
	return nil
}

const mailboxUser = "nobody"

func (p *PostfixServer) writeCertificate(cert tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})...)
	return os.WriteFile(p.path("conf/chain.pem"), chain, 0o600)
}

// configure writes main.cf, master.cf and the rules for recipients (access(5)).
func (p *PostfixServer) configure() error {
	mailbox, err := lookUp(mailboxUser, "")
	if err != nil {
		return err
	}
	main := []string{
		"compatibility_level = 3.6",
		"queue_directory = " + p.path("queue"),
		"data_directory = " + p.path("data"),
		"maillog_file = /dev/stdout",
		"inet_interfaces = 127.0.0.1",
		"inet_protocols = ipv4",
		"myhostname = mail.test",
		"smtpd_banner = " + p.banner(),
		"smtpd_peername_lookup = no",
		"smtpd_error_sleep_time = 0",
		"smtpd_forbid_bare_newline = yes",
		"in_flow_delay = 0", // the queue manager has paid for no message yet, so the first would wait a second

		// Every domain is one of virtual mailboxes, all mailboxes are one, and no
		// client that could send anything elsewhere is configured.
		"mydestination =",
		"alias_maps =",
		"local_recipient_maps =",
		"virtual_mailbox_domains = static:all",
		"virtual_mailbox_base = " + p.path("mail"),
		"virtual_mailbox_maps = static:inbox/",
		fmt.Sprintf("virtual_uid_maps = static:%d", mailbox.uid),
		fmt.Sprintf("virtual_gid_maps = static:%d", mailbox.gid),
		"default_transport = error:no mail leaves the test",
		"smtpd_relay_restrictions = reject_unauth_destination",
		"smtpd_recipient_restrictions = check_recipient_access texthash:" + p.path("conf/recipients"),
	}
	if p.tls {
		main = append(main,
			"smtpd_tls_security_level = may",
			"smtpd_tls_chain_files = "+p.path("conf/chain.pem"),
			"smtpd_tls_received_header = yes",
		)
	}
	services := []string{
		fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd", p.port),
		"anvil     unix       - - n - 1 anvil",
		"bounce    unix       - - n - 0 bounce",
		"cleanup   unix       n - n - 0 cleanup",
		"defer     unix       - - n - 0 bounce",
		"error     unix       - - n - - error",
		"postlog   unix-dgram n - n - 1 postlogd",
		"qmgr      unix       n - n - 1 qmgr",
		"retry     unix       - - n - - error",
		"rewrite   unix       - - n - - trivial-rewrite",
		"tlsmgr    unix       - - n - 1 tlsmgr",
		"trace     unix       - - n - 0 bounce",
		"virtual   unix       - n n - - virtual",
	}
	transport := []string{}
	if p.bounces != nil {
		main = append(main, "recipient_delimiter = +", "transport_maps = regexp:"+p.path("conf/transport"))
		services = append(services, "bounces   unix       - n n - 1 pipe flags=Rq user="+mailboxUser+" argv="+strings.Join(p.bounces, " ")+" ${recipient}")
		// An error: in the table would refuse it at once. This one is found when it is to be delivered.
		services = append(services, "nouser    unix       - n n - 1 pipe flags=Rq user="+mailboxUser+" argv=/bin/sh -c {exit 67}")
		transport = []string{"/^" + Gone + "@/ nouser:", `/^` + Bounced + `\+/ bounces:`}
	}
	recipients := []string{
		TempFail + "@ 450 4.2.0 Mailbox busy, try again later",
		Reject + "@ 550 5.1.1 No such user here",
	}
	for name, lines := range map[string][]string{"main.cf": main, "master.cf": services, "recipients": recipients, "transport": transport} {
		name = p.path("conf", name)
		if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return err
		}
		// Postfix waits until a file has rested for two seconds before it trusts it.
		rested := time.Now().Add(-time.Hour)
		if err := os.Chtimes(name, rested, rested); err != nil {
			return err
		}
	}
	return nil
}

// banner names this instance, so that another server on the port is not taken for
// it.
func (p *PostfixServer) banner() string { return "mail.test ESMTP " + filepath.Base(p.dir) }

var (
	errPortTaken = errors.New("port taken")
	errExited    = errors.New("postfix exited")
)

// start runs master(8) in the foreground and waits until it greets.
func (p *PostfixServer) start() error {
	log, err := os.Create(p.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.master, "-s", "-c", p.path("conf"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // how it ended is in its log
	}()
	err = p.startGuard()
	if err == nil {
		err = p.poll(p.greeted)
	}
	if err != nil {
		p.kill()
		if taken := p.portFree(); taken != nil { // master dies of it without a word
			return taken
		}
		return fmt.Errorf("%w; its log:\n%s", err, p.log())
	}
	return nil
}

// startGuard starts a shell that ends the server when the test binary dies without
// its cleanups (a panic, go test -timeout): the pipe that it reads from then ends.
// The kernel's own signal for that, Linux's PR_SET_PDEATHSIG, is lost as soon as
// master changes its user.
func (p *PostfixServer) startGuard() error {
	guard := exec.Command("sh", "-c", `trap "" HUP INT QUIT TERM; read _; kill -9 "-$0"`, strconv.Itoa(p.cmd.Process.Pid))
	if _, err := guard.StdinPipe(); err != nil {
		return err
	}
	if err := guard.Start(); err != nil {
		return err
	}
	p.guard = guard
	return nil
}

func (p *PostfixServer) portFree() error {
	l, err := net.Listen("tcp", p.Addr())
	if err != nil {
		return errPortTaken
	}
	return l.Close()
}

func (p *PostfixServer) log() []byte {
	b, err := os.ReadFile(p.path("log"))
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

func (p *PostfixServer) greeted(deadline time.Time) error {
	select {
	case <-p.exited:
		return errExited
	default:
	}
	c, err := net.DialTimeout("tcp", p.Addr(), time.Until(deadline))
	if err != nil {
		return err
	}
	defer c.Close()
	// A stranger on the port may stay silent for ever.
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	text := textproto.NewConn(c)
	_, greeting, err := text.ReadResponse(220)
	if err != nil {
		return err
	}
	if greeting != p.banner() {
		return errPortTaken
	}
	return text.PrintfLine("QUIT")
}

// poll looks until try succeeds, an error says that it never will, or time is up.
func (p *PostfixServer) poll(try func(deadline time.Time) error) error {
	deadline := time.Now().Add(waitFor)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := try(deadline)
		switch {
		case err == nil, errors.Is(err, errExited), errors.Is(err, errPortTaken):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("not in time: %w", err)
		}
		<-tick.C
	}
}

// Addr returns the server's host:port. It survives Stop and Start.
func (p *PostfixServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
}

// ClientTLS returns the configuration of a client that trusts the server, or nil
// without [StartTLS].
func (p *PostfixServer) ClientTLS() *tls.Config { return p.clientTLS.Clone() }

// Stop ends the server with all its sessions; connections are refused when it
// returns. It does nothing to a stopped server.
func (p *PostfixServer) Stop() {
	p.tb.Helper()
	p.kill()
	err := p.poll(func(deadline time.Time) error {
		c, err := net.DialTimeout("tcp", p.Addr(), time.Until(deadline))
		if err == nil {
			c.Close()
			return errors.New("the port is still open")
		}
		return nil
	})
	if err != nil {
		p.tb.Fatalf("mailtest: stop postfix: %v", err)
	}
}

// kill ends master and all its children at once. They are one process group, since
// master made itself the leader of a session.
func (p *PostfixServer) kill() {
	if p.cmd == nil {
		return
	}
	if p.guard != nil {
		_ = p.guard.Process.Kill() // before the number may become another's
		_ = p.guard.Wait()
		p.guard = nil
	}
	select {
	case <-p.exited: // its children follow by themselves, and its number may be another's
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Process.Kill() // in case it did not come that far
		<-p.exited
	}
	p.cmd = nil
}

// Start starts a stopped server again, on its port, queue and mailbox.
func (p *PostfixServer) Start() {
	p.tb.Helper()
	if p.cmd != nil {
		return
	}
	if err := p.start(); err != nil {
		p.tb.Fatalf("mailtest: start postfix: %v", err)
	}
}

// Messages returns all mail in the mailbox, oldest first, after waiting until
// everything that the server has acknowledged is delivered. What a message shows as
// envelope is what Postfix noted on delivery (Return-Path, X-Original-To).
func (p *PostfixServer) Messages() []Message {
	p.tb.Helper()
	if p.cmd != nil {
		if err := p.poll(p.delivered); err != nil {
			p.tb.Fatalf("mailtest: %v; log of postfix:\n%s", err, p.log())
		}
	}
	messages, err := p.read()
	if err != nil {
		p.tb.Fatalf("mailtest: mailbox: %v", err)
	}
	return messages
}

// Wait returns the messages once there are at least n, and fails the test if they
// do not come.
func (p *PostfixServer) Wait(n int) []Message {
	p.tb.Helper()
	var messages []Message
	err := p.poll(func(time.Time) error {
		var err error
		messages, err = p.read()
		if err == nil && len(messages) < n {
			err = fmt.Errorf("%d messages, want %d", len(messages), n)
		}
		return err
	})
	if err != nil {
		p.tb.Fatalf("mailtest: mailbox: %v; log of postfix:\n%s", err, p.log())
	}
	return messages
}

// queueFileReady marks a queue file that is complete. Postfix sets it before it
// acknowledges the message, and ignores files without it.
const queueFileReady fs.FileMode = 0o100

// delivered tells whether no acknowledged message is in the queue. There a message
// moves only forward in this list (nothing is deferred and tried again), so it is not
// missed between two directories.
func (p *PostfixServer) delivered(time.Time) error {
	for _, queue := range []string{"incoming", "active", "deferred"} {
		err := filepath.WalkDir(p.path("queue", queue), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return moved(err)
			}
			info, err := d.Info()
			if err != nil || info.Mode()&queueFileReady == 0 {
				return moved(err)
			}
			return fmt.Errorf("a message is still in the %s queue", queue)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// moved forgives that a file went on its way while it was looked at.
func moved(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maildirName holds the second and, after the M, the microsecond of a delivery.
var maildirName = regexp.MustCompile(`^(\d+)\..*M(\d+)\.`)

func deliveredAt(name string) time.Time {
	var sec, usec int64
	if m := maildirName.FindStringSubmatch(name); m != nil {
		sec, _ = strconv.ParseInt(m[1], 10, 64)
		usec, _ = strconv.ParseInt(m[2], 10, 64)
	}
	return time.Unix(sec, usec*1000)
}

// read parses the maildir. A delivery appears in new at once and complete.
func (p *PostfixServer) read() ([]Message, error) {
	files, err := os.ReadDir(p.path("mail/inbox/new"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // made with the first delivery
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b fs.DirEntry) int {
		return deliveredAt(a.Name()).Compare(deliveredAt(b.Name()))
	})
	var messages []Message
	for _, f := range files {
		raw, err := os.ReadFile(p.path("mail/inbox/new", f.Name()))
		if err != nil {
			return nil, err
		}
		m, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		m.From = strings.Trim(m.Header.Get("Return-Path"), "<>")
		m.To = []string{m.Header.Get("X-Original-To")}
		messages = append(messages, m)
	}
	return messages, nil
}
