package handoff

import (
	"crypto/hmac"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
)

// A mail's token names the grant and the code that the mail gives out, for the return path: a mail
// that comes back names its token. It is letters and digits, of which mail servers may change the
// case, and cannot be made without the key.
const (
	// MailTokenLen is how long every token is. RFC 5321 gives the part before the @ 64 octets.
	MailTokenLen = 47

	mailTokenBytes = hashLen/2 + 1 + 4
	mailTokenMAC   = 12
)

var mailTokens = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// MailToken is the token of the mail with one code of a grant; empty where the numbers are beyond
// what a token holds.
func MailToken(names Namer, id GrantID, issue uint64) string {
	if id.Generation < 1 || id.Generation > math.MaxUint8 || issue > math.MaxUint32 {
		return ""
	}
	said := append(id.Hash.Bytes(), byte(id.Generation))
	said = binary.BigEndian.AppendUint32(said, uint32(issue))
	return mailTokens.EncodeToString(append(said, mailTokenOf(names, said)...))
}

func mailTokenOf(names Namer, said []byte) []byte {
	return names.Name("bounce", string(said))[:mailTokenMAC]
}

// ParseMailToken reads a token, in whatever case. It answers false to what the key did not make, and
// to any other spelling of a token.
func ParseMailToken(names Namer, text string) (id GrantID, issue uint64, ok bool) {
	text = strings.ToLower(text)
	read, err := mailTokens.DecodeString(text)
	if err != nil || len(read) != mailTokenBytes+mailTokenMAC || mailTokens.EncodeToString(read) != text {
		return GrantID{}, 0, false
	}
	said := read[:mailTokenBytes]
	if !hmac.Equal(read[mailTokenBytes:], mailTokenOf(names, said)) {
		return GrantID{}, 0, false
	}
	id = GrantID{Hash: ParcelHash(hex.EncodeToString(said[:hashLen/2])), Generation: int(said[hashLen/2])}
	return id, uint64(binary.BigEndian.Uint32(said[hashLen/2+1:])), true
}
