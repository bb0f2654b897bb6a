package web

// words are all that a language says on the pages.
type words struct {
	LogTitle, LogLead, LogEmpty, LogMore   string
	When, WhichDoor, Carrier, Outcome      string
	LocalTime, LinkUntil, HeadLead, NoHead string
	UnitLabel, AddressLabel, BuildingLabel string

	Doors     map[string]string
	Outcomes  map[string]string // what a passage came to
	Questions map[Question]told
	Answers   map[Answer]told
}

// told is a page of text.
type told struct {
	Title   string
	Lines   []string
	buttons []button
}

var english = words{
	LogTitle:  "Who was let in",
	LogLead:   "Every time in the last thirty days that a courier had a door of this building unlocked, and every time one was refused. No names, no parcels, no flats.",
	LogEmpty:  "Nothing happened in this time.",
	LogMore:   "There is more than fits here. The manager of the building can show you the rest.",
	When:      "When",
	WhichDoor: "Door",
	Carrier:   "Company",
	Outcome:   "What happened",
	LocalTime: "Local time of the building", LinkUntil: "This link can be used until",
	HeadLead:  "Keep this page, or these lines, if you want to be able to show later that the log was not changed:",
	NoHead:    "The log has no signed end yet. It is signed from time to time.",
	UnitLabel: "Flat", AddressLabel: "Mail address", BuildingLabel: "Building",
	Doors: map[string]string{"lobby": "Front door", "gate": "Gate", "garage": "Garage", "home": "Flat door"},
	Outcomes: map[string]string{
		"authorised": "Permit given", "delivered": "Permit reached the door", "confirmed": "Unlocked", "opened": "Opened",
		"relocked": "Locked again", "not-relocked": "Did not lock again", "failed": "The lock failed",
		"refused-by-door": "Refused by the door", "no-answer": "No answer from the door", "refused": "Refused",
		"forced": "Opened without a permit", "held-open": "Stood open", "tampered": "Tampered with", "rules-changed": "Rules changed",
		"jammed": "Lock or door stuck", "battery-low": "Battery low", "unavailable": "Lock not reachable",
	},
	Questions: map[Question]told{
		Confirm: {
			"Notices to your address?",
			[]string{"You then get a mail whenever a courier is let into the building. If a flat is named, the manager is asked first whether you live there, and sees your address."},
			[]button{{"confirm", "Yes, write to me"}},
		},
		Unsubscribe: {
			"End the notices?",
			[]string{"You then get no more mail when a courier is let in. If the manager has you on file, you are still told when something is installed or changed."},
			[]button{{"unsubscribe", "End the notices"}},
		},
		Decide: {
			"Does this address belong to the flat?",
			[]string{"Approve it only if you know that it belongs to somebody who lives there. Whoever follows a flat learns when its parcels come."},
			[]button{{"approve", "Approve"}, {"reject", "Reject"}},
		},
	},
	Answers: map[Answer]told{
		Active:       {Title: "The notices begin", Lines: []string{"From now on you get a mail whenever a courier is let in. Each one has a link that ends them."}},
		Waiting:      {Title: "Your address is confirmed", Lines: []string{"The manager of the building is now asked whether you live in the flat. You hear from us when that is approved."}},
		Unsubscribed: {Title: "The notices have ended", Lines: []string{"You get no more mail when a courier is let in."}},
		Approved:     {Title: "Approved", Lines: []string{"The address now gets notices about this flat."}},
		Rejected:     {Title: "Rejected", Lines: []string{"The address was forgotten. It is not told why."}},
		Gone:         {Title: "This link is over", Lines: []string{"It was not complete, or its time is over, or the notices were ended. The newest notice has a new link."}},
		Broken:       {Title: "Not now", Lines: []string{"This page cannot be shown at the moment. Please try again later."}},
	},
}

var german = words{
	LogTitle:  "Wer eingelassen wurde",
	LogLead:   "Jedes Mal in den letzten dreißig Tagen, dass ein Kurier eine Tür dieses Gebäudes entriegeln ließ oder abgewiesen wurde. Keine Namen, keine Sendungen, keine Wohnungen.",
	LogEmpty:  "In dieser Zeit ist nichts geschehen.",
	LogMore:   "Es gibt mehr, als hier Platz hat. Die Verwaltung kann Ihnen den Rest zeigen.",
	When:      "Wann",
	WhichDoor: "Tür",
	Carrier:   "Firma",
	Outcome:   "Was geschah",
	LocalTime: "Ortszeit des Gebäudes", LinkUntil: "Dieser Link gilt bis",
	HeadLead:  "Heben Sie diese Seite oder diese Zeilen auf, wenn Sie später zeigen können wollen, dass das Protokoll nicht geändert wurde:",
	NoHead:    "Das Protokoll hat noch kein unterschriebenes Ende. Es wird von Zeit zu Zeit unterschrieben.",
	UnitLabel: "Wohnung", AddressLabel: "Mailadresse", BuildingLabel: "Gebäude",
	Doors: map[string]string{"lobby": "Haustür", "gate": "Tor", "garage": "Garage", "home": "Wohnungstür"},
	Outcomes: map[string]string{
		"authorised": "Erlaubnis erteilt", "delivered": "Erlaubnis an der Tür", "confirmed": "Entriegelt", "opened": "Geöffnet",
		"relocked": "Wieder verriegelt", "not-relocked": "Nicht wieder verriegelt", "failed": "Das Schloss versagte",
		"refused-by-door": "Von der Tür abgewiesen", "no-answer": "Keine Antwort der Tür", "refused": "Abgewiesen",
		"forced": "Ohne Erlaubnis geöffnet", "held-open": "Stand offen", "tampered": "Eingriff gemeldet", "rules-changed": "Regeln geändert",
		"jammed": "Schloss oder Tür klemmt", "battery-low": "Batterie schwach", "unavailable": "Schloss nicht erreichbar",
	},
	Questions: map[Question]told{
		Confirm: {
			"Mitteilungen an Ihre Adresse?",
			[]string{"Sie bekommen dann eine Mail, wenn ein Kurier in das Gebäude eingelassen wird. Ist eine Wohnung genannt, wird zuerst die Verwaltung gefragt, ob Sie dort wohnen, und sieht Ihre Adresse."},
			[]button{{"confirm", "Ja, schreiben Sie mir"}},
		},
		Unsubscribe: {
			"Mitteilungen beenden?",
			[]string{"Sie bekommen dann keine Mail mehr, wenn ein Kurier eingelassen wird. Hat die Verwaltung Ihre Adresse hinterlegt, erfahren Sie weiterhin, wenn etwas eingebaut oder geändert wird."},
			[]button{{"unsubscribe", "Mitteilungen beenden"}},
		},
		Decide: {
			"Gehört diese Adresse zur Wohnung?",
			[]string{"Stimmen Sie nur zu, wenn Sie wissen, dass sie jemandem gehört, der dort wohnt. Wer einer Wohnung folgt, erfährt, wann ihre Sendungen kommen."},
			[]button{{"approve", "Zustimmen"}, {"reject", "Ablehnen"}},
		},
	},
	Answers: map[Answer]told{
		Active:       {Title: "Die Mitteilungen beginnen", Lines: []string{"Ab jetzt bekommen Sie eine Mail, wenn ein Kurier eingelassen wird. In jeder steht ein Link, der sie beendet."}},
		Waiting:      {Title: "Ihre Adresse ist bestätigt", Lines: []string{"Die Verwaltung wird jetzt gefragt, ob Sie in der Wohnung wohnen. Sie hören von uns, sobald sie zustimmt."}},
		Unsubscribed: {Title: "Die Mitteilungen sind beendet", Lines: []string{"Sie bekommen keine Mail mehr, wenn ein Kurier eingelassen wird."}},
		Approved:     {Title: "Zugestimmt", Lines: []string{"Die Adresse bekommt jetzt Mitteilungen zu dieser Wohnung."}},
		Rejected:     {Title: "Abgelehnt", Lines: []string{"Die Adresse wurde vergessen. Sie erfährt den Grund nicht."}},
		Gone:         {Title: "Dieser Link gilt nicht mehr", Lines: []string{"Er war nicht vollständig, seine Zeit ist um, oder die Mitteilungen wurden beendet. In der neuesten Mitteilung steht ein neuer Link."}},
		Broken:       {Title: "Gerade nicht möglich", Lines: []string{"Diese Seite lässt sich im Augenblick nicht zeigen. Bitte versuchen Sie es später noch einmal."}},
	},
}
