package identity

import (
	"crypto/hmac"
	"encoding/base64"

	"latchkey/handoff"
)

const signedMAC = 16 // bytes

// Sign makes a text of what the service says, by which it can tell later that it did:
// base64url(body, MAC). The MAC is a keyed hash of the body in a domain of its own, cut to
// 128 bits. The body is not hidden: a holder of the text can read it.
func Sign(names handoff.Namer, domain string, body []byte) string {
	return base64.RawURLEncoding.EncodeToString(append(body[:len(body):len(body)], signature(names, domain, body)...))
}

// ReadSigned reads what Sign made in the same domain; false for anything else. A body has
// exactly one signed text.
func ReadSigned(names handoff.Namer, domain, text string) (body []byte, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) <= signedMAC || base64.RawURLEncoding.EncodeToString(raw) != text { // it passes over line ends
		return nil, false
	}
	body, mac := raw[:len(raw)-signedMAC], raw[len(raw)-signedMAC:]
	return body, hmac.Equal(mac, signature(names, domain, body))
}

func signature(names handoff.Namer, domain string, body []byte) []byte {
	return names.Name(domain, string(body))[:signedMAC]
}
