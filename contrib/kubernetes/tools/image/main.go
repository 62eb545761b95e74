// image makes a container image of one layer.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func main() {
	arch := flag.String("arch", "amd64", "the architecture")
	version := flag.String("version", "latest", "the image's tag")
	created := flag.String("created", "1970-01-01T00:00:00Z", "its time")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: image [flags] ROOTFS.tar IMAGE.tar")
		os.Exit(2)
	}
	if err := make1(flag.Arg(0), flag.Arg(1), *arch, *version, *created); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// make1 writes the image of one layer, and reads it again.
func make1(rootfs, out, arch, version, created string) error {
	at, err := time.Parse(time.RFC3339, created)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromFile(rootfs)
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	img, err = mutate.ConfigFile(img, config(img, arch, version, at))
	if err != nil {
		return err
	}
	tag, err := name.NewTag("scopereap:" + tagOf(version))
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(out, tag, img); err != nil {
		return err
	}
	back, err := tarball.ImageFromPath(out, &tag)
	if err != nil {
		return err
	}
	return validate.Image(back)
}

func config(img v1.Image, arch, version string, at time.Time) *v1.ConfigFile {
	c, err := img.ConfigFile()
	if err != nil {
		panic(err) // it was just made, in memory
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Created = "linux", arch, v1.Time{Time: at.UTC()}
	for i := range c.History {
		c.History[i] = v1.History{Created: c.Created, CreatedBy: "contrib/kubernetes/image.sh"}
	}
	c.Config = v1.Config{
		Entrypoint: []string{"/usr/sbin/scopereapd"},
		Env:        []string{"PATH=/usr/sbin:/usr/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "scopereap",
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://github.com/scopereap/scopereap",
		},
	}
	return c
}

// tagOf is a version as a tag, which may have no "~" and no "+".
func tagOf(version string) string {
	b := []byte(version)
	for i, c := range b {
		if c == '~' || c == '+' {
			b[i] = '-'
		}
	}
	return string(b)
}
