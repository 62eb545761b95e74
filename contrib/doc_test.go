// Package contrib_test holds what contrib ships to what scopereapd really tells: every metric and label that the rules
// and the dashboard name exists, every expression can be read, and each alert fires where it should.
package contrib_test
