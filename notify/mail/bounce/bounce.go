// Package bounce reads what mail servers report of a mail that was sent (RFC 3464).
package bounce

import (
	"bufio"
	"errors"
	"io"
	"net/textproto"
	"regexp"
	"strings"

	"github.com/emersion/go-message"

	"latchkey/handoff"
)

// Report is what a message says of a mail.
type Report struct {
	// Tokens are what may be the mail's token: of the address that the message was sent to or, where
	// that has none, of its fields. None of them is checked.
	Tokens []string

	// State is MailFailed or MailDelivered; MailNone where the message reports neither: it is no
	// report, or one that the mail is delayed or was passed on.
	State handoff.MailState

	// Status is the enhanced status code (RFC 3463) of the recipient; empty where there is none.
	Status string
}

// ErrMessage says that what was read is no message.
var ErrMessage = errors.New("bounce: not a message of RFC 5322")

const (
	longest   = 1 << 20 // bytes of a message that are read: a report stands at its beginning
	mostParts = 10
	mostLines = 200 // fields of a report's part
)

var token = regexp.MustCompile(`\+([A-Za-z2-7]{47})@`)

// Read reads a message that came to recipients, which may be none where the mail server does not say.
// The error is ErrMessage.
func Read(r io.Reader, recipients []string) (Report, error) {
	m, err := message.Read(io.LimitReader(r, longest))
	if m == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return Report{}, ErrMessage
	}
	report := Report{Tokens: tokens(recipients)}
	if len(report.Tokens) == 0 {
		for _, name := range []string{"X-Original-To", "Delivered-To", "Original-Recipient", "To"} {
			for fields := m.Header.FieldsByKey(name); fields.Next(); {
				report.Tokens = append(report.Tokens, tokens([]string{fields.Value()})...)
			}
		}
	}
	kind, params, err := m.Header.ContentType()
	if err != nil || !strings.EqualFold(kind, "multipart/report") || !strings.EqualFold(params["report-type"], "delivery-status") {
		return report, nil // a vacation's notice, a person's answer
	}
	parts := m.MultipartReader()
	if parts == nil {
		return report, nil
	}
	defer parts.Close()
	for range mostParts {
		part, err := parts.NextPart()
		if part == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
			return report, nil
		}
		switch kind, _, _ := part.Header.ContentType(); strings.ToLower(kind) {
		case "message/delivery-status", "message/global-delivery-status": // the latter of RFC 6533
			report.State, report.Status = judge(part.Body)
			return report, nil
		}
	}
	return report, nil
}

func tokens(texts []string) (found []string) {
	for _, text := range texts {
		for _, m := range token.FindAllStringSubmatch(text, mostParts) {
			found = append(found, m[1])
		}
	}
	return found
}

// judge reads the groups of fields of a delivery-status: one of the mail, then one for each recipient.
// A mail has one recipient; where there are several, one that failed counts, and a delivery only if
// nothing else is said.
func judge(body io.Reader) (state handoff.MailState, status string) {
	lines := textproto.NewReader(bufio.NewReader(body))
	var action, said string
	delivered, other := "", false
	end := func() (failed bool) {
		switch action {
		case "":
		case "failed":
			return true
		case "delivered":
			delivered = said
			state = handoff.MailDelivered
		default:
			other = true
		}
		action, said = "", ""
		return false
	}
	for range mostLines {
		line, err := lines.ReadContinuedLine()
		name, value, field := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case line == "" || err != nil:
			if end() {
				return handoff.MailFailed, said
			}
			if err != nil {
				if other {
					return handoff.MailNone, ""
				}
				return state, delivered
			}
		case !field:
		case strings.EqualFold(name, "Action"):
			action, _, _ = strings.Cut(strings.ToLower(value), " ")
		case strings.EqualFold(name, "Status"):
			code, _, _ := strings.Cut(value, " ")
			said = handoff.MailStatus(code)
		}
	}
	return handoff.MailNone, ""
}
