package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/keyring"
	"latchkey/handoff/redisstore"
	"latchkey/notify/doors"
	"latchkey/notify/mail"
	"latchkey/notify/residents"
	"latchkey/notify/signals"
)

// outboxCmd looks at the dead letters of the groups of readers. It needs Redis and no
// keyset: events hold nothing that is sealed.
type outboxCmd struct {
	redisAt

	Group string `help:"Whose outbox, mail, residents or doors; all if left out." placeholder:"NAME"`

	List   outboxListCmd   `cmd:"" help:"List the dead letters, oldest first."`
	Replay outboxReplayCmd `cmd:"" help:"Try dead letters again."`
	Forget outboxForgetCmd `cmd:"" help:"Forget a group of readers that will not come back, so that the log can be trimmed."`
}

func (c *outboxCmd) open() (*redisstore.Store, func(), error) { return openUnsealed(&c.redisAt) }

// openUnsealed is a store for what is not sealed: events, and chains of them.
func openUnsealed(at *redisAt) (*redisstore.Store, func(), error) {
	ring, err := keyring.New() // opens nothing; nothing sealed is read
	if err != nil {
		return nil, nil, err
	}
	return openStore(at, ring, time.Hour)
}

// groups are those that are asked for.
func (c *outboxCmd) groups() []string {
	if c.Group == "" {
		return []string{mail.Group, residents.Group, doors.Group, signals.Group}
	}
	return []string{c.Group}
}

type outboxListCmd struct{}

// Run lists dead letters: id, whose, event, grant, how often and until when it was tried,
// why it failed.
func (*outboxListCmd) Run(ctx context.Context, io streams, outbox *outboxCmd) error {
	store, done, err := outbox.open()
	if err != nil {
		return err
	}
	defer done()
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	n := 0
	for _, group := range outbox.groups() {
		letters, err := store.Dead(ctx, group)
		if err != nil {
			return err
		}
		for _, l := range letters {
			if n++; n == 1 {
				fmt.Fprintln(w, "ID\tGROUP\tEVENT\tGRANT\tTRIES\tGIVEN UP\tERROR")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", eventName(l.ID), group, l.Event.Type, l.Event.Grant, l.Tries, l.DiedAt.Time().Format(time.RFC3339), l.Error)
		}
	}
	if n == 0 {
		fmt.Fprintf(io.out, "no dead letters in %s\n", strings.Join(outbox.groups(), " or "))
	}
	return w.Flush()
}

type outboxForgetCmd struct {
	Sure bool `required:"" help:"What the group has not read is lost to it."`
}

// Run forgets the group.
func (c *outboxForgetCmd) Run(ctx context.Context, io streams, outbox *outboxCmd) error {
	if outbox.Group == "" {
		return fmt.Errorf("name the --group to forget")
	}
	store, done, err := outbox.open()
	if err != nil {
		return err
	}
	defer done()
	if err := store.Leave(ctx, outbox.Group); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s is forgotten\n", outbox.Group)
	return nil
}

type outboxReplayCmd struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids as list shows them."`
	All bool     `help:"Replay every dead letter."`
}

// Run makes dead letters due again, an event's in each of the groups that gave it up.
func (c *outboxReplayCmd) Run(ctx context.Context, io streams, outbox *outboxCmd) error {
	if (len(c.IDs) == 0) == !c.All {
		return fmt.Errorf("name the letters to replay, or say --all")
	}
	store, done, err := outbox.open()
	if err != nil {
		return err
	}
	defer done()
	replay := func(id eventlog.ID, groups ...string) (n int, err error) {
		for _, group := range groups {
			found, err := store.Replay(ctx, group, id)
			if err != nil {
				return n, err
			}
			if found {
				n++
			}
		}
		return n, nil
	}
	total := 0
	if c.All {
		for _, group := range outbox.groups() {
			letters, err := store.Dead(ctx, group)
			if err != nil {
				return err
			}
			for _, l := range letters {
				n, err := replay(l.ID, group)
				if err != nil {
					return err
				}
				total += n
			}
		}
	}
	for _, name := range c.IDs {
		id, err := parseEventName(name)
		if err != nil {
			return err
		}
		n, err := replay(id, outbox.groups()...)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%s is no dead letter of %s", name, strings.Join(outbox.groups(), " or "))
		}
		total += n
	}
	fmt.Fprintf(io.out, "%d letters will be tried again\n", total)
	return nil
}

// An event's name outside is its partition and its id in that partition's log.
func eventName(id eventlog.ID) string { return strconv.Itoa(id.Partition) + "/" + id.ID }

func parseEventName(name string) (eventlog.ID, error) {
	partition, id, ok := strings.Cut(name, "/")
	p, err := strconv.Atoi(partition)
	if !ok || err != nil || p < 0 || p >= handoff.Partitions || id == "" {
		return eventlog.ID{}, fmt.Errorf("%q is not an id as list shows them", name)
	}
	return eventlog.ID{Partition: p, ID: id}, nil
}
