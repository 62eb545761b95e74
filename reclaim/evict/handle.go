package evict

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// form is how a file system makes its handles (name_to_handle_at(2)), as it
// shows by the one of its own root.
type form uint8

const (
	// inode32: inode and generation, 32 bits each (FILEID_INO32_GEN: ext4,
	// f2fs, squashfs and most).
	inode32 form = iota + 1
	// inode64: 64 and 32 bits (FILEID_INO64_GEN, xfs with its 64-bit flag).
	inode64
	// btrfs: inode, subvolume, generation.
	btrfs
)

// Types of handles (include/linux/exportfs.h).
const (
	fileidInode32 = 1
	fileidInode64 = 0x81
	fileidBtrfs   = 0x4d
)

// learn asks a file system for a handle of a file whose inode is known.
func learn(f *os.File) (form, error) {
	h, _, err := unix.NameToHandleAt(int(f.Fd()), "", unix.AT_EMPTY_PATH)
	if err != nil {
		return 0, fmt.Errorf("%s: no file handles: %w", f.Name(), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	k, ok := formOf(h.Type(), h.Bytes(), st.Ino)
	if !ok {
		return 0, fmt.Errorf("%s: file handles of type %#x and %d bytes are not known", f.Name(), h.Type(), h.Size())
	}
	return k, nil
}

// formOf recognizes a form by a handle of a file with this inode number.
func formOf(kind int32, b []byte, inode uint64) (form, bool) {
	ne := binary.NativeEndian
	switch {
	case kind == fileidInode32 && len(b) == 8 && uint64(ne.Uint32(b)) == inode&0xffffffff:
		return inode32, true
	case kind == fileidInode64 && len(b) == 12 && ne.Uint64(b) == inode:
		return inode64, true
	case kind == fileidBtrfs && len(b) == 20 && ne.Uint64(b) == inode:
		return btrfs, true
	}
	return 0, false
}

// handle is a file's. It names the generation too, so that an inode which has
// been given to another file since does not open.
func (k form) handle(f pagewalk.File) (kind int32, b []byte, err error) {
	ne := binary.NativeEndian
	switch k {
	case inode32:
		if f.Inode > 0xffffffff {
			return 0, nil, fmt.Errorf("%v: its number does not fit a handle of this file system", f)
		}
		b = ne.AppendUint32(nil, uint32(f.Inode))
		return fileidInode32, ne.AppendUint32(b, f.Generation), nil
	case inode64:
		b = ne.AppendUint64(nil, f.Inode)
		return fileidInode64, ne.AppendUint32(b, f.Generation), nil
	case btrfs:
		if f.Subvolume == 0 {
			return 0, nil, fmt.Errorf("%v: which subvolume it is of is not known", f)
		}
		b = ne.AppendUint64(nil, f.Inode)
		b = ne.AppendUint64(b, f.Subvolume)
		return fileidBtrfs, ne.AppendUint32(b, f.Generation), nil
	}
	return 0, nil, errors.New("no form of handles")
}
