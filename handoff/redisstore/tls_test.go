package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"

	"latchkey/handoff/handofftest"
	"latchkey/handoff/redisstore/redistest"
)

func roots(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		t.Fatal("no certificate in " + file)
	}
	return pool
}

func shows(cert, key string) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		return &pair, err
	}
}

// Over TLS with an authority and client certificates of the operator's own, a single server, a
// set with Sentinels and a Cluster keep grants; a stranger on either end is refused.
func TestPrivateAuthority(t *testing.T) {
	ca := redistest.NewAuthority(t)
	single := redistest.Single(t, ca.Conf()...)
	sentinel := redistest.Sentinel(t, ca.Conf()...)
	cluster := redistest.Cluster(t, ca.Conf()...)
	over := func(addrs []string, query string) string {
		return "rediss://" + addrs[0] + "?" + query + "addr=" + strings.Join(addrs[1:], "&addr=")
	}
	good := Access{Roots: roots(t, ca.CA), Certificate: shows(ca.ClientCert, ca.ClientKey)}
	for name, url := range map[string]string{
		"single":   "rediss://" + single.TLSAddr(),
		"sentinel": over(sentinel.SentinelTLSAddrs(), "master_name="+sentinel.MasterName()+"&"),
		"cluster":  over(cluster.TLSAddrs(), ""),
	} {
		t.Run(name, func(t *testing.T) {
			for who, c := range map[string]struct {
				access Access
				works  bool
			}{
				"ours":                         {good, true},
				"by another name it has":       {Access{Roots: good.Roots, Certificate: good.Certificate, ServerName: "server.example"}, true},
				"by a name it has not":         {Access{Roots: good.Roots, Certificate: good.Certificate, ServerName: "redis.example"}, false},
				"an authority that is not its": {Access{Roots: roots(t, ca.StrangeCA), Certificate: good.Certificate}, false},
				"the system's authorities":     {Access{Certificate: good.Certificate}, false},
				"no certificate":               {Access{Roots: good.Roots}, false},
				"a stranger's certificate":     {Access{Roots: good.Roots, Certificate: shows(ca.StrangeCert, ca.StrangeKey)}, false},
			} {
				client, err := DialWith(url, c.access)
				if err != nil {
					t.Fatal(err)
				}
				s, _ := newStore(t, client, 2)
				found, err := NewWatch(s, nil).Look(t.Context())
				if works := err == nil && len(found.Faults) == 0; works != c.works {
					t.Errorf("%s: %v, %v", who, found.Faults, err)
				}
				if c.works {
					w := handofftest.New(t, s)
					w.Dispatch(t, handofftest.Sample(strings.ReplaceAll(who, " ", "")))
				}
			}
		})
	}
}

// What cannot be meant is refused, by an error that holds no secret.
func TestAccessIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		url    string
		access Access
		want   string
	}{
		"an authority without TLS":     {"redis://redis.example", Access{Roots: x509.NewCertPool()}, "rediss://"},
		"a name without TLS":           {"redis://redis.example", Access{ServerName: "x"}, "rediss://"},
		"two passwords":                {"rediss://u:hunter2@redis.example", Access{Password: "hunter2"}, "leave one out"},
		"two of a cluster":             {"rediss://u:hunter2@redis.example?addr=b:1", Access{Password: "hunter2"}, "leave one out"},
		"two of the data":              {"rediss://redis.example?master_name=m&password=hunter2", Access{Password: "hunter2"}, "leave one out"},
		"two of the Sentinels":         {"rediss://u:hunter2@redis.example?master_name=m", Access{SentinelPassword: "hunter2"}, "leave one out"},
		"a Sentinel's, and none there": {"rediss://redis.example", Access{SentinelPassword: "hunter2"}, "master_name"},
		"the same of a cluster":        {"rediss://redis.example?addr=b:1", Access{SentinelPassword: "hunter2"}, "master_name"},
		"reading from replicas":        {"rediss://redis.example?addr=b:1&read_only=true", Access{}, "replicas"},
		"reading from the nearest":     {"rediss://redis.example?master_name=m&route_by_latency=1", Access{}, "replicas"},
		"a cluster without checks":     {"rediss://redis.example?addr=b:1&skip_verify=true", Access{}, "skip_verify"},
	} {
		if _, err := DialWith(c.url, c.access); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for url, want := range map[string]bool{
		"rediss://redis.example": false, "rediss://redis.example?skip_verify=false": false, "rediss://redis.example?skip_verify=0": false,
		"rediss://redis.example?skip_verify=true": true, "rediss://redis.example?skip_verify=1": true, "rediss://redis.example?skip_verify=yes": true,
		"rediss://redis.example?skip_verify=false&skip_verify=true": true, "rediss://redis.example?master_name=m&skip_verify=true": true,
	} {
		if got, err := Unverified(url); err != nil || got != want {
			t.Errorf("%s: %v, %v", url, got, err)
		}
	}
}
