package main

import (
	"cmp"
	"crypto/rand"
	"net/url"
	"slices"
	"time"

	"latchkey/api"
	"latchkey/api/auth"
	"latchkey/api/web/account"
	"latchkey/api/web/building"
	"latchkey/api/web/courier"
	"latchkey/api/web/frame"
	"latchkey/api/web/ops"
	"latchkey/api/web/residents"
	"latchkey/api/web/signin"
)

// sessionTimes are how long people stay signed in.
type sessionTimes struct {
	life, idle time.Duration
	keyLife    time.Duration    // how long an API key works at most; 0 is auth.LongestKeyLife
	now        func() time.Time // by which clock
}

// pages puts the pages of package api/web before the site, with the sessions that the API
// takes too. The way to the API is to be led to the application once that is made.
func (s *system) pages(c *api.Config) (*frame.API, error) {
	u, err := url.Parse(s.publicURL)
	if err != nil {
		return nil, err
	}
	logins, err := auth.NewLogins(auth.LoginConfig{Issuers: s.issuers, Sealer: s.ring, Random: rand.Reader, PublicURL: s.publicURL})
	if err != nil {
		return nil, err
	}
	c.Sessions, err = auth.NewSessions(auth.SessionConfig{
		Store: s.store, Issuers: s.issuers, Keys: auth.NewKeys(s.store, s.ring, s.sessions.now).Within(cmp.Or(s.sessions.keyLife, auth.LongestKeyLife)),
		Random: rand.Reader, Life: s.sessions.life, Idle: s.sessions.idle, Now: s.sessions.now, Secure: u.Scheme == "https",
	})
	if err != nil {
		return nil, err
	}
	entrance, err := signin.New(c.Sessions, logins, s.log)
	if err != nil {
		return nil, err
	}
	way := &frame.API{}
	entrance.Lead(pageSets(s.pageLinks)...)
	config := frame.Config{API: way, Clock: s.clock, Next: s.site, Log: s.log}
	entrance.Configure(&config)
	links := residents.Set(residents.Config{Links: s.residents, Buildings: s.registry, Grants: s.service, CarrierNames: s.mailer.CarrierNames})
	site, err := frame.New(config, slices.Concat(pageSets(s.pageLinks), s.sets, []frame.Set{links, entrance.Set()})...)
	if err != nil {
		return nil, err
	}
	c.Site = site
	return way, nil
}

// pageSets are the pages that people come for. Links are what a shop's links to them mean.
func pageSets(links account.Links) []frame.Set {
	return []frame.Set{account.Set(links), courier.Set(), building.Set(), ops.Set()}
}
