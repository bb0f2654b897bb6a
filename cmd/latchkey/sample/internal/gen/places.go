package main

// A market is what the addresses of one country have in common.
type market struct {
	country  string
	currency string
	line     string   // address line, of street (1) and house number (2)
	unit     string   // flat, of floor (1) and door (2)
	poBox    string   // address line, of box number
	locales  []string // of its customers; repeated entries are likelier
}

var (
	germany   = market{"DE", "EUR", "%[1]s %[2]d", "%[1]d. OG %[2]d", "Postfach %d", []string{"de", "de", "de", "de", "en", "fr"}}
	austria   = market{"AT", "EUR", "%[1]s %[2]d", "Top %[1]d%[2]d", "Postfach %d", []string{"de-AT", "de-AT", "de-AT", "de", "en"}}
	france    = market{"FR", "EUR", "%[2]d %[1]s", "Apt %[1]d%[2]d", "BP %d", []string{"fr", "fr", "fr", "en"}}
	britain   = market{"GB", "GBP", "%[2]d %[1]s", "Flat %[1]d%[2]d", "PO Box %d", []string{"en-GB", "en-GB", "en-GB", "en", "fr"}}
	america   = market{"US", "USD", "%[2]d %[1]s", "Apt %[1]d%[2]d", "PO Box %d", []string{"en", "en", "en-US", "en-US", "es"}}
	chile     = market{"CL", "CLP", "%[1]s %[2]d", "Depto %[1]d0%[2]d", "Casilla %d", []string{"es-CL", "es-CL", "es-CL", "es", "en"}}
	brazil    = market{"BR", "BRL", "%[1]s, %[2]d", "Apto %[1]d%[2]d", "Caixa Postal %d", []string{"pt-BR", "pt-BR", "pt-BR", "en"}}
	australia = market{"AU", "AUD", "%[2]d %[1]s", "Unit %[1]d%[2]d", "PO Box %d", []string{"en-AU", "en-AU", "en"}}
	japan     = market{"JP", "JPY", "%[1]s-%[2]d", "%[1]d0%[2]d", "PO Box %d", []string{"ja", "ja", "ja", "en"}}
)

// A district is the ground of one or more routes.
type district struct {
	market
	city, postalCode, zone string
	lat, lon               float64 // its middle, in degrees
	spread                 int     // how far an address lies off the middle, at most, in 1e-5 degrees (about a metre)
	houses                 [2]int  // lowest and highest house number
	streets                []string
}

// moabit is where the parcel of the documentation's examples goes, to turm5.
var moabit = &district{
	market: germany, city: "Berlin", postalCode: "10559", zone: "Europe/Berlin",
	lat: 52.5275, lon: 13.3440, spread: 500, houses: [2]int{1, 90},
	streets: []string{"Turmstr.", "Stephanstr.", "Birkenstr.", "Perleberger Str.", "Lübecker Str.", "Wilsnacker Str."},
}

var turm5 = address{line: "Turmstr. 5", location: location{52.5256, 13.3421}, buildingID: "bld_turm5"}

var hackney = &district{
	market: britain, city: "London", postalCode: "E8 1HE", zone: "Europe/London",
	lat: 51.5445, lon: -0.0600, spread: 400, houses: [2]int{1, 160},
	streets: []string{"Graham Road", "Richmond Road", "Navarino Road", "Wilton Way", "Greenwood Road"},
}

var upperWestSide = &district{
	market: america, city: "New York", postalCode: "10024", zone: "America/New_York",
	lat: 40.7865, lon: -73.9755, spread: 400, houses: [2]int{100, 490},
	streets: []string{"W 80th St", "W 83rd St", "W 85th St", "Columbus Ave", "Amsterdam Ave"},
}

// A round is one route of the day. The round of a pickup point is the point's
// own: its clerk hands over everything on it, at the one counter.
type round struct {
	routeID, carrierID string
	ground             *district
	pickup             bool
}

// rounds lists the routes in the order of the file. Two carriers share Moabit,
// and so its buildings.
var rounds = []round{
	{routeID: "BER-042", carrierID: "swift", ground: moabit},
	{routeID: "BER-057", carrierID: "swift", ground: &district{
		market: germany, city: "Berlin", postalCode: "10405", zone: "Europe/Berlin",
		lat: 52.5345, lon: 13.4240, spread: 500, houses: [2]int{1, 80},
		streets: []string{"Kollwitzstr.", "Winsstr.", "Marienburger Str.", "Rykestr.", "Immanuelkirchstr."},
	}},
	{routeID: "BER-108", carrierID: "rival", ground: moabit},
	{routeID: "BER-P01", carrierID: "swift", ground: moabit, pickup: true},
	{routeID: "HAM-011", carrierID: "swift", ground: &district{
		market: germany, city: "Hamburg", postalCode: "22765", zone: "Europe/Berlin",
		lat: 53.5540, lon: 9.9270, spread: 500, houses: [2]int{1, 90},
		streets: []string{"Bahrenfelder Str.", "Große Rainstr.", "Rothestr.", "Eulenstr.", "Große Brunnenstr."},
	}},
	{routeID: "HAM-205", carrierID: "rival", ground: &district{
		market: germany, city: "Hamburg", postalCode: "22303", zone: "Europe/Berlin",
		lat: 53.5885, lon: 10.0150, spread: 400, houses: [2]int{1, 70},
		streets: []string{"Mühlenkamp", "Gertigstr.", "Jarrestr.", "Barmbeker Str.", "Semperstr."},
	}},
	{routeID: "VIE-007", carrierID: "swift", ground: &district{
		market: austria, city: "Wien", postalCode: "1070", zone: "Europe/Vienna",
		lat: 48.2020, lon: 16.3490, spread: 450, houses: [2]int{1, 90},
		streets: []string{"Neubaugasse", "Burggasse", "Lindengasse", "Kirchengasse", "Westbahnstraße", "Zieglergasse"},
	}},
	{routeID: "VIE-112", carrierID: "rival", ground: &district{
		market: austria, city: "Wien", postalCode: "1030", zone: "Europe/Vienna",
		lat: 48.1985, lon: 16.3930, spread: 500, houses: [2]int{1, 80},
		streets: []string{"Ungargasse", "Landstraßer Hauptstraße", "Erdbergstraße", "Neulinggasse", "Hainburger Straße"},
	}},
	{routeID: "LON-031", carrierID: "swift", ground: &district{
		market: britain, city: "London", postalCode: "N1 1QP", zone: "Europe/London",
		lat: 51.5400, lon: -0.1035, spread: 400, houses: [2]int{1, 180},
		streets: []string{"Upper Street", "Cross Street", "Almeida Street", "Liverpool Road", "Theberton Street"},
	}},
	{routeID: "LON-204", carrierID: "rival", ground: hackney},
	{routeID: "LON-P02", carrierID: "rival", ground: hackney, pickup: true},
	{routeID: "PAR-009", carrierID: "rival", ground: &district{
		market: france, city: "Paris", postalCode: "75011", zone: "Europe/Paris",
		lat: 48.8590, lon: 2.3790, spread: 600, houses: [2]int{1, 140},
		streets: []string{"rue Oberkampf", "rue de Charonne", "rue Saint-Maur", "rue de la Roquette", "avenue Parmentier"},
	}},
	{routeID: "NYC-118", carrierID: "swift", ground: upperWestSide},
	{routeID: "NYC-P03", carrierID: "swift", ground: upperWestSide, pickup: true},
	{routeID: "NYC-342", carrierID: "rival", ground: &district{
		market: america, city: "Brooklyn", postalCode: "11215", zone: "America/New_York",
		lat: 40.6680, lon: -73.9840, spread: 500, houses: [2]int{100, 490},
		streets: []string{"5th Ave", "7th Ave", "Carroll St", "Garfield Pl", "8th St"},
	}},
	{routeID: "CHI-016", carrierID: "swift", ground: &district{
		market: america, city: "Chicago", postalCode: "60614", zone: "America/Chicago",
		lat: 41.9215, lon: -87.6480, spread: 600, houses: [2]int{500, 2400},
		streets: []string{"N Clark St", "N Halsted St", "W Armitage Ave", "W Fullerton Ave", "W Dickens Ave"},
	}},
	{routeID: "CHI-220", carrierID: "rival", ground: &district{
		market: america, city: "Chicago", postalCode: "60647", zone: "America/Chicago",
		lat: 41.9230, lon: -87.7020, spread: 600, houses: [2]int{2200, 3100},
		streets: []string{"N Milwaukee Ave", "W Logan Blvd", "N Kedzie Ave", "W Palmer St", "N Spaulding Ave"},
	}},
	{routeID: "SCL-005", carrierID: "swift", ground: &district{
		market: chile, city: "Santiago", postalCode: "7510050", zone: "America/Santiago",
		lat: -33.4290, lon: -70.6130, spread: 600, houses: [2]int{100, 2900},
		streets: []string{"Av. Providencia", "Av. Pedro de Valdivia", "Av. Ricardo Lyon", "Guardia Vieja", "Av. Los Leones"},
	}},
	{routeID: "SAO-019", carrierID: "rival", ground: &district{
		market: brazil, city: "São Paulo", postalCode: "05422-001", zone: "America/Sao_Paulo",
		lat: -23.5640, lon: -46.6850, spread: 500, houses: [2]int{20, 1400},
		streets: []string{"Rua dos Pinheiros", "Rua Teodoro Sampaio", "Rua Cardeal Arcoverde", "Rua Mateus Grou", "Rua Artur de Azevedo"},
	}},
	{routeID: "SYD-023", carrierID: "swift", ground: &district{
		market: australia, city: "Sydney", postalCode: "2010", zone: "Australia/Sydney",
		lat: -33.8860, lon: 151.2110, spread: 400, houses: [2]int{1, 420},
		streets: []string{"Crown St", "Bourke St", "Foveaux St", "Devonshire St", "Riley St"},
	}},
	{routeID: "SYD-150", carrierID: "rival", ground: &district{
		market: australia, city: "Sydney", postalCode: "2042", zone: "Australia/Sydney",
		lat: -33.8980, lon: 151.1790, spread: 400, houses: [2]int{1, 300},
		streets: []string{"King St", "Australia St", "Wilson St", "Station St", "Church St"},
	}},
	{routeID: lordHowe, carrierID: "swift", ground: &district{
		market: australia, city: "Lord Howe Island", postalCode: "2898", zone: "Australia/Lord_Howe",
		lat: -31.5265, lon: 159.0690, spread: 150, houses: [2]int{1, 20},
		streets: []string{"Lagoon Rd", "Anderson Rd", "Middle Beach Rd"},
	}},
	{routeID: "TYO-064", carrierID: "swift", ground: &district{
		market: japan, city: "Tokyo", postalCode: "150-0001", zone: "Asia/Tokyo",
		lat: 35.6690, lon: 139.7060, spread: 400, houses: [2]int{1, 24},
		streets: []string{"Jingumae 2-18", "Jingumae 3-12", "Jingumae 4-26", "Jingumae 5-11", "Jingumae 6-7"},
	}},
	{routeID: "TYO-065", carrierID: "swift", ground: &district{
		market: japan, city: "Tokyo", postalCode: "153-0061", zone: "Asia/Tokyo",
		lat: 35.6430, lon: 139.6985, spread: 400, houses: [2]int{1, 24},
		streets: []string{"Nakameguro 1-3", "Nakameguro 2-9", "Nakameguro 3-5", "Nakameguro 4-12"},
	}},
	{routeID: "TYO-210", carrierID: "rival", ground: &district{
		market: japan, city: "Tokyo", postalCode: "154-0024", zone: "Asia/Tokyo",
		lat: 35.6430, lon: 139.6700, spread: 400, houses: [2]int{1, 24},
		streets: []string{"Sangenjaya 1-32", "Sangenjaya 2-14", "Sangenjaya 2-37", "Sangenjaya 1-5"},
	}},
}

// lordHowe is an island of four hundred people: two parcels are a day there.
const lordHowe = "LDH-001"

// perEUR is about what 100 EUR buy, in whole units, and whether the currency has
// a minor unit (ISO 4217). It shapes prices; it is no rate to convert at.
var perEUR = map[string]struct {
	hundred int
	minor   bool
}{
	"EUR": {100, true},
	"USD": {115, true},
	"GBP": {87, true},
	"AUD": {178, true},
	"BRL": {620, true},
	"JPY": {17_500, false},
	"CLP": {108_000, false},
}
