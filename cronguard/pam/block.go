package pam

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// A line that the guard replaces becomes a block. The lines that were there stay in it as comments,
// so that the block can be taken out again without any other record; the sum tells whether somebody
// has edited inside.
//
//	# scopereap: begin: ...
//	# scopereap: undo with: scopereapctl cron unguard SERVICE
//	# scopereap: was: the old line
//	the new lines
//	# scopereap: end SUM
const (
	blockMark  = "# scopereap: "
	blockBegin = blockMark + "begin"
	blockWas   = blockMark + "was: "
	blockEOF   = blockMark + "was, without a newline: "
	blockEnd   = blockMark + "end "
)

// makeBlock replaces old lines of a service's file by new ones, which end in a newline.
func makeBlock(service, what string, old, new []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: %s\n", blockBegin, what)
	fmt.Fprintf(&b, "%sundo with: scopereapctl cron unguard %s\n", blockMark, service)
	for l := range strings.Lines(string(old)) {
		if strings.HasSuffix(l, "\n") {
			b.WriteString(blockWas + l)
		} else {
			b.WriteString(blockEOF + l + "\n")
		}
	}
	b.Write(new)
	fmt.Fprintf(&b, "%s%s\n", blockEnd, blockSum(b.Bytes()))
	return b.Bytes()
}

func blockSum(block []byte) string {
	sum := sha256.Sum256(block)
	return hex.EncodeToString(sum[:6])
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// revertBlocks takes the guard's blocks out of a file: what was there before, and how many there
// were.
func revertBlocks(file string, data []byte) ([]byte, int, error) {
	var out, block, was []byte
	blocks, begun := 0, 0
	fail := func(n int, msg string) ([]byte, int, error) {
		return nil, 0, &Error{Place: Place{file, n}, Msg: msg,
			Hint: "take scopereap's block out by hand: put back what its comments say was there"}
	}
	n := 0
	for l := range strings.Lines(string(data)) {
		n++
		begin := strings.HasPrefix(l, blockBegin)
		switch {
		case begin && begun > 0:
			return fail(n, "a block of the guard begins inside another")
		case begin:
			begun, blocks = n, blocks+1
			block, was = append(block[:0], l...), was[:0]
		case begun == 0 && strings.HasPrefix(l, blockEnd):
			return fail(n, "a block of the guard ends that has not begun")
		case begun == 0:
			out = append(out, l...)
		case strings.HasPrefix(l, blockEnd):
			if strings.TrimSuffix(strings.TrimPrefix(l, blockEnd), "\n") != blockSum(block) {
				return fail(begun, "somebody has edited inside the guard's block")
			}
			out = append(out, was...)
			begun = 0
		default:
			block = append(block, l...)
			if old, ok := strings.CutPrefix(l, blockWas); ok {
				was = append(was, old...)
			} else if old, ok := strings.CutPrefix(l, blockEOF); ok {
				was = append(was, strings.TrimSuffix(old, "\n")...)
			}
		}
	}
	if begun > 0 {
		return fail(begun, "a block of the guard has no end")
	}
	return out, blocks, nil
}
