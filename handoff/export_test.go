package handoff

// DispatchParts is what a digest of a dispatch is made of.
func DispatchParts(d Dispatch) []string { return d.Parts() }
