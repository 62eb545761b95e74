package message

// The IDs, made by systemd-id128 new. One is never used again for anything
// else: others' filters and alerts have it.
const (
	Started            ID = "6777f89f33884483804f2cc9576ee1ab"
	Stopping           ID = "1b96f3d552af47d78a205b6e41985d02"
	Reaped             ID = "e9a507d6bf0849908e8190a4cac63dc7"
	Pinned             ID = "4a5c9e979d094bbbafc05985559d90ca"
	ReclaimFailed      ID = "44c28d1e361d418593b2a70058ecc8f8"
	Swept              ID = "c770db64b00d4c50b28c8b11261110fe"
	SweepFailed        ID = "21ffc3716b3f45a8834183958c1057d3"
	Threshold          ID = "452501821ea547b8b06d5c616d35ca82"
	CachesDropped      ID = "8774ac290d394b2ca35fbea191e0fc32"
	GivingWay          ID = "0c99a3f907fd46e1a308e0f2dfc88382"
	PressureOver       ID = "91ecd39d1e8f4f3aadb164c89412b0f7"
	MonitorOnly        ID = "30b323b955134b3a806d9556caf7e5b9"
	PolicyReloaded     ID = "2f7c030803ce4f5781ecfddbad6d52cf"
	PolicyRefused      ID = "7c41ce4d85364fc79eea8724413a2b87"
	ShieldRestored     ID = "4ff312dccb7a43388812b25fec8ee0c6"
	ShieldStays        ID = "5c5cf8e6b412493d879732146d58ea61"
	BusLost            ID = "17df61bcbe954ee6824cb6c91a4eef2e"
	BusBack            ID = "67fa16d279d2471aa1b3a5a3c63abec9"
	HoldFailed         ID = "b9bccec6d6b34e47aa35f3a4b6d76d3b"
	HoldNotEmptied     ID = "afd7e00914fd4dd98cdc8bd9926bbacf"
	LingerEnabled      ID = "735a35288cb84af386a3a1c9c065a70d"
	LingerDisabled     ID = "52ccab0634bf48549ecec19daba28778"
	LingerFailed       ID = "aff2c39dd883478ab88a2fd8ac684977"
	MemcgFreeInstalled ID = "08b795fb00374f7abcd2b3a4819f52b9"
	MemcgFreeRemoved   ID = "ea6c0e5478bc406a97511011c64ce93e"
	APILost            ID = "f4b527af98ed4671ab2ab147d31c12f0"
	APIBack            ID = "5373324cf2554961b8bf7f0d1d5dfa65"
)

// Message says what carries an ID.
type Message struct {
	Name string // of the constant
	ID   ID
	// Fields are the journal's fields that every entry with it has, each
	// behind SCOPEREAP_. Others may come with it; the catalog relies on these
	// only. _USEC are microseconds, BYTES bytes, COUNT memcgs.
	Fields []string
}

// List is all of them.
func List() []Message {
	return []Message{
		{"Started", Started, []string{"VERSION", "CGROUPS", "MEMORY_AT", "POLICY_FILES"}},
		{"Stopping", Stopping, nil},
		{"Reaped", Reaped, []string{"ANCESTOR", "COUNT", "BYTES", "CPU_USEC", "WALL_USEC"}},
		{"Pinned", Pinned, []string{"ANCESTOR", "COUNT", "PINS", "REASON", "BYTES"}},
		{"ReclaimFailed", ReclaimFailed, []string{"ANCESTOR", "ERROR"}},
		{"Swept", Swept, []string{"DYING_BEFORE", "DYING_AFTER", "COUNT", "BYTES", "CPU_USEC", "WALL_USEC"}},
		{"SweepFailed", SweepFailed, []string{"ERROR"}},
		{"Threshold", Threshold, []string{"COUNT", "THRESHOLD"}},
		{"CachesDropped", CachesDropped, []string{"COUNT", "LIMIT"}},
		{"GivingWay", GivingWay, []string{"REASON"}},
		{"PressureOver", PressureOver, nil},
		{"MonitorOnly", MonitorOnly, []string{"REASON"}},
		{"PolicyReloaded", PolicyReloaded, []string{"CHANGES", "FILES"}},
		{"PolicyRefused", PolicyRefused, []string{"ERROR"}},
		{"ShieldRestored", ShieldRestored, []string{"COUNT", "GONE", "FOREIGN", "UNREADABLE"}},
		{"ShieldStays", ShieldStays, []string{"ERROR"}},
		{"BusLost", BusLost, []string{"ERROR"}},
		{"BusBack", BusBack, nil},
		{"HoldFailed", HoldFailed, []string{"ERROR"}},
		{"HoldNotEmptied", HoldNotEmptied, []string{"CGROUP", "ERROR"}},
		{"LingerEnabled", LingerEnabled, []string{"USER", "UID", "RULE"}},
		{"LingerDisabled", LingerDisabled, []string{"USER", "UID", "RULE"}},
		{"LingerFailed", LingerFailed, []string{"USER", "UID", "RULE", "ACTION", "ERROR"}},
		{"MemcgFreeInstalled", MemcgFreeInstalled, []string{"DROPIN"}},
		{"MemcgFreeRemoved", MemcgFreeRemoved, []string{"REMOVED"}},
		{"APILost", APILost, []string{"NAME", "ERROR"}},
		{"APIBack", APIBack, []string{"NAME"}},
	}
}
