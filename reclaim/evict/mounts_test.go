package evict

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

const someMounts = `22 28 0:21 / /proc rw - proc proc rw
28 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
30 28 254:0 /var/lib/docker /srv/my\040docker rw - ext4 /dev/vda rw
31 28 0:50 / /net rw - nfs4 server:/x rw
32 31 8:1 / /net/disk rw - xfs /dev/sda1 rw
33 28 8:1 /a /networks rw - xfs /dev/sda1 rw
34 28 0:60 /file /etc/hosts\134 rw - tmpfs none rw
nonsense
35 28 x:y / /bad rw - ext4 /dev/vda rw
36 28 9:0 / /short rw
`

func TestParseMounts(t *testing.T) {
	all := parseMounts(someMounts, "/proc/7/root")
	if len(all) != 7 {
		t.Errorf("%d mounts, want 7", len(all))
	}
	got := pick(all, 254, 0)
	want := []mount{
		{id: 28, major: 254, whole: true, point: "/", fsType: "ext4", root: "/proc/7/root"},
		{id: 30, major: 254, point: "/srv/my docker", fsType: "ext4", root: "/proc/7/root"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(mount{})); d != "" {
		t.Error(d)
	}
	// What is mounted below NFS is not walked to.
	if got := pick(all, 8, 1); len(got) != 1 || got[0].point != "/networks" {
		t.Errorf("%+v", got)
	}
	if got := pick(all, 0, 60); len(got) != 1 || got[0].point != `/etc/hosts\` {
		t.Errorf("%+v", got)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(someMounts)
	f.Add(`1 2 3:4 / \04 - - x`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, m := range parseMounts(s, "") {
			if len(m.point) > len(s) {
				t.Errorf("%q", m.point)
			}
		}
	})
}

func TestForms(t *testing.T) {
	f := pagewalk.File{Inode: 0x1_0000_0002, Generation: 7, Subvolume: 258}
	for _, x := range []struct {
		form  form
		inode uint64
	}{{inode32, 0x01020304}, {inode64, 1 << 40}, {btrfs, 256}} {
		g := f
		g.Inode = x.inode
		kind, b, err := x.form.handle(g)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := formOf(kind, b, x.inode); !ok || got != x.form {
			t.Errorf("%d: its own handle tells %d, %v", x.form, got, ok)
		}
		if got, ok := formOf(kind, b, x.inode+1); ok {
			t.Errorf("%d: the handle of another inode tells %d", x.form, got)
		}
	}
	// tmpfs has handles of FILEID_INO32_GEN's number and another content.
	if got, ok := formOf(fileidInode32, make([]byte, 12), 0); ok {
		t.Errorf("tmpfs: %d", got)
	}
	if _, _, err := inode32.handle(f); err == nil {
		t.Error("an inode of more than 32 bits has a handle of 32")
	}
	f.Subvolume = 0
	if _, _, err := btrfs.handle(f); err == nil {
		t.Error("a btrfs file without a subvolume has a handle")
	}
}

func TestStaysWhy(t *testing.T) {
	file, shm := pagewalk.File{}, pagewalk.File{Kind: pagewalk.Shmem}
	inode := func(magic, number uint64) pagewalk.File { return pagewalk.File{Magic: magic, Inode: number} }
	for _, x := range []struct {
		f    pagewalk.File
		s    pagewalk.State
		want Why
	}{
		{file, 0, ""}, {file, pagewalk.Dirty | pagewalk.Mapped, Dirty}, {file, pagewalk.Writeback, Writeback},
		{file, pagewalk.Mapped, Mapped}, {shm, 0, Shmem}, {pagewalk.File{Kind: pagewalk.Hugetlb}, 0, Hugetlb},
		{inode(unix.EXT4_SUPER_MAGIC, 1), 0, Unreachable}, {inode(unix.EXT4_SUPER_MAGIC, 1), pagewalk.Dirty, Dirty},
		{inode(unix.EXT4_SUPER_MAGIC, 2), 0, ""}, {inode(unix.EXT4_SUPER_MAGIC, 11), 0, ""},
		{inode(unix.BTRFS_SUPER_MAGIC, 1), 0, Unreachable}, {inode(unix.BTRFS_SUPER_MAGIC, 256), 0, ""},
		{inode(unix.F2FS_SUPER_MAGIC, 2), 0, Unreachable}, {inode(unix.F2FS_SUPER_MAGIC, 3), 0, ""}, {inode(unix.XFS_SUPER_MAGIC, 1), 0, ""},
	} {
		if got := Stays(x.f, x.s); got != x.want {
			t.Errorf("%v %d: %q, want %q", x.f.Kind, x.s, got, x.want)
		}
	}
}

// TestHiddenMount: a mount point that leads to another mount is not taken for it.
func TestHiddenMount(t *testing.T) {
	m := mount{point: t.TempDir()}
	dir, err := os.Open(m.point)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if m.id, err = mountID(dir); err != nil {
		t.Fatal(err)
	}
	f, err := openMount(m)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	m.id++
	if f, err := openMount(m); err == nil {
		f.Close()
		t.Error("another mount was opened")
	}
}

// TestWriteMost: no more dirty pages than that are begun to be written.
func TestWriteMost(t *testing.T) {
	e := New(Options{Write: true})
	defer e.Close()
	for _, pages := range []uint64{writeMost - 1, 2, 1} {
		e.Evict(pagewalk.File{}, []pagewalk.Range{{Pages: pages, State: pagewalk.Dirty}})
	}
	if e.wrote != writeMost {
		t.Errorf("%d pages, want %d", e.wrote, writeMost)
	}
}
