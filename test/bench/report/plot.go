package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/scopereap/scopereap/test/bench/result"
)

// picture is one plot, or several below each other.
type picture struct {
	of    *result.Run
	name  string // of the file, without its ending
	about string // for who cannot see it
	plots []*plot.Plot
}

const (
	width  = 8 * vg.Inch
	height = 3.6 * vg.Inch // of each
)

// save writes it as SVG or PNG, by the name's ending. The ground is white also where the page is dark.
func (p picture) save(path string) error {
	c, err := draw.NewFormattedCanvas(width, height*vg.Length(len(p.plots)), filepath.Ext(path)[1:])
	if err != nil {
		return err
	}
	dc := draw.New(c)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	rows := make([][]*plot.Plot, len(p.plots))
	for i, one := range p.plots {
		rows[i] = []*plot.Plot{one}
	}
	tiles := draw.Tiles{Rows: len(p.plots), Cols: 1, PadX: 0, PadY: vg.Points(10), PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 16}
	for i, row := range plot.Align(rows, tiles, dc) {
		p.plots[i].Draw(row[0])
	}
	var out bytes.Buffer
	if _, err := c.WriteTo(&out); err != nil {
		return err
	}
	return os.WriteFile(path, bytes.ReplaceAll(out.Bytes(), []byte(fontWanted), []byte(fontElse)), 0o644)
}

// The texts' places are for Liberation Sans; where a viewer lacks it, Arial and Helvetica are as wide.
const (
	fontWanted = "font-family:Liberation Sans;"
	fontElse   = "font-family:Liberation Sans,Arial,Helvetica,sans-serif;"
)

// newPlot has axes from 0.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	for _, s := range []*draw.TextStyle{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		s.Font.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size = vg.Points(13)
	p.Title.Padding = vg.Points(6)
	p.Legend.TextStyle.Font.Size = vg.Points(10)
	p.Legend.Padding = vg.Points(3)
	p.Legend.ThumbnailWidth = vg.Points(30)
	p.Legend.Top = true
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
	p.Add(grid())
	return p
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = color.Gray{0xe0}, color.Gray{0xe0}
	return g
}

// ticks are the default ones, with thousands grouped and no zeros behind the point.
type ticks struct{}

func (ticks) Ticks(low, high float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range all {
		switch {
		case t.Label == "":
		case t.Value == math.Trunc(t.Value):
			all[i].Label = count(int64(t.Value))
		default:
			all[i].Label = strconv.FormatFloat(t.Value, 'g', 3, 64)
		}
	}
	return all
}

// The colours of Okabe and Ito, which most eyes can tell apart, but yellow, which is too light on white.
var (
	vermilion = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	skyBlue   = color.RGBA{0x56, 0xb4, 0xe9, 0xff}
	others    = []color.Color{color.Black, skyBlue, color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
		color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.Gray{0x80}}
)

// style is how a curve looks. Curves differ in dashes too, for who sees no colours.
type style struct {
	color  color.Color
	width  vg.Length
	dashes []vg.Length
}

var ours = style{vermilion, vg.Points(3), nil}

// oursToo is for a second one of ours, thinner so that it does not cover the first.
var oursToo = style{vermilion, vg.Points(1.5), []vg.Length{vg.Points(4), vg.Points(2)}}

// other is the style of the i-th curve that is not ours.
func other(i int) style {
	return style{others[i%len(others)], vg.Points(1.5), plotutil.Dashes(i)}
}

// line adds a curve.
func line(p *plot.Plot, name string, points plotter.XYs, as style) error {
	l, err := plotter.NewLine(points)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.Color, l.Width, l.Dashes = as.color, as.width, as.dashes
	p.Add(l)
	p.Legend.Add(name, l)
	return nil
}

// level adds a dashed line across.
func level(p *plot.Plot, name string, y, to float64) error {
	l, err := plotter.NewLine(plotter.XYs{{X: 0, Y: y}, {X: to, Y: y}})
	if err != nil {
		return err
	}
	l.Color, l.Width, l.Dashes = color.Black, vg.Points(1), []vg.Length{vg.Points(6), vg.Points(4)}
	p.Add(l)
	p.Legend.Add(name, l)
	return nil
}
