package webtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Exchange is a request of the page and what came back.
type Exchange struct {
	Method, URL string
	Sent        http.Header
	Status      int64
	Got         http.Header
	Page        bool  // it is what the window shows, no part of it
	Bytes       int64 // as received: headers, and the body as it was encoded
	Ended       bool
}

// Traffic is what a page asked for and got, since it was begun.
type Traffic struct {
	mu    sync.Mutex
	order []network.RequestID
	all   map[network.RequestID]*Exchange
}

// Traffic begins to record, without the browser's cache and past any service worker.
func (b *Browser) Traffic() *Traffic {
	b.T.Helper()
	t := &Traffic{all: map[network.RequestID]*Exchange{}}
	call(b, network.Enable, network.EnableParams{})
	call(b, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
	call(b, network.SetBypassServiceWorker, network.SetBypassServiceWorkerParams{Bypass: true})
	if err := chromedp.Listen(b.ctx, t.hear); err != nil {
		b.T.Fatal(err)
	}
	return t
}

func (t *Traffic) hear(ev any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := func(id network.RequestID) *Exchange {
		if t.all[id] == nil {
			t.all[id] = &Exchange{Sent: http.Header{}, Got: http.Header{}}
			t.order = append(t.order, id)
		}
		return t.all[id]
	}
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		id := ev.RequestID
		if ev.RedirectResponse != nil { // the same id again: what led here is kept under its own
			led := network.RequestID(fmt.Sprint(id, " ", len(t.order)))
			past := of(id)
			past.Ended = true
			past.answered(ev.RedirectResponse)
			t.all[led] = past
			t.order[slices.Index(t.order, id)] = led
			delete(t.all, id)
		}
		x := of(id)
		x.Method, x.URL, x.Page = ev.Request.Method, ev.Request.URL+ev.Request.URLFragment, ev.Type == network.ResourceTypeDocument
		add(x.Sent, ev.Request.Headers)
	case *network.EventRequestWillBeSentExtraInfo:
		add(of(ev.RequestID).Sent, ev.Headers)
	case *network.EventResponseReceived:
		of(ev.RequestID).answered(ev.Response)
	case *network.EventLoadingFinished:
		x := of(ev.RequestID)
		x.Bytes, x.Ended = int64(ev.EncodedDataLength), true
	case *network.EventLoadingFailed:
		of(ev.RequestID).Ended = true
	}
}

func (x *Exchange) answered(r *network.Response) {
	x.Status = r.Status
	add(x.Got, r.Headers)
}

func add(to http.Header, from network.Headers) {
	for name, value := range from {
		to.Set(name, fmt.Sprint(value))
	}
}

// Exchanges are all so far, in their order.
func (t *Traffic) Exchanges() (all []Exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range t.order {
		x := *t.all[id]
		x.Sent, x.Got = maps.Clone(x.Sent), maps.Clone(x.Got)
		all = append(all, x)
	}
	return all
}

// Forget begins anew.
func (t *Traffic) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.order = nil
	clear(t.all)
}

// Weight waits until what was asked for is there, and is how many bytes that took. What
// is no page of the service, such as a picture that is written into the page, is none.
func (t *Traffic) Weight(b *Browser) (bytes int64) {
	b.T.Helper()
	b.Until("the page and its parts", func() bool {
		all := t.Exchanges()
		// A page asks for itself again to stay true, and the browser on behalf of a service
		// worker that is bypassed: the latter is never heard of again.
		itself := func(x Exchange) bool {
			return !x.Page && x.Status == 0 && slices.ContainsFunc(all, func(p Exchange) bool { return p.Page && p.Ended && p.URL == x.URL })
		}
		return len(all) > 0 && !slices.ContainsFunc(all, func(x Exchange) bool {
			return !x.Ended && strings.HasPrefix(x.URL, "http") && !itself(x)
		})
	}, func() string { return fmt.Sprint(t.Exchanges()) })
	for _, x := range t.Exchanges() {
		bytes += x.Bytes
	}
	return bytes
}

// Scripts are what the pages that follow may run, or not.
func (b *Browser) Scripts(may bool) {
	b.T.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !may})
}
