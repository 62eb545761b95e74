// Package manpage writes the man pages: those of the programs from the words that --help shows, those of the policy,
// the bus interface and the metrics from the schema, the interface's XML and the list of metrics, each set into a
// hand-written frame of packaging/man. It is part of the build (make man), not of the programs.
//
// The pages are in man(7), with no macro that groff or mandoc lacks. They have no date but the commit's, so that the
// same sources make the same pages.
package manpage
