package handoff

import (
	"crypto/hmac"
	"encoding/base64"
)

const tokenMAC = 16 // bytes

// token makes a text of what the service says, by which it can tell later that it did:
// base64url(body, MAC). The MAC is a keyed hash of the body in a domain of its own, cut to
// 128 bits; whoever has the token can read the body.
func (s *Service) token(domain string, body []byte) string {
	return base64.RawURLEncoding.EncodeToString(append(body[:len(body):len(body)], s.tokenMAC(domain, body)...))
}

// said reads what token made in the same domain. It has exactly one spelling.
func (s *Service) said(domain, token string) (body []byte, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) <= tokenMAC || base64.RawURLEncoding.EncodeToString(raw) != token { // it passes over line ends
		return nil, false
	}
	body, mac := raw[:len(raw)-tokenMAC], raw[len(raw)-tokenMAC:]
	return body, hmac.Equal(mac, s.tokenMAC(domain, body))
}

func (s *Service) tokenMAC(domain string, body []byte) []byte {
	return s.names.Name(domain, string(body))[:tokenMAC]
}
