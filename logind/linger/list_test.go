package linger

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopereap/scopereap/internal/bustest"
)

func TestAutoLinger(t *testing.T) {
	r := newRig(t)
	auto := Rules{Auto: Auto{TeardownsPerHour: 3, MaxUsers: 5, ForgetAfter: 24 * time.Hour}}
	r.want("quiet", r.reconcile(auto), "")
	due := false
	for i := range 4 {
		due = r.l.SliceTornDown(1000, r.now().Add(time.Duration(i-30)*time.Second))
	}
	if !due {
		t.Error("the fourth teardown should have called for a Reconcile")
	}
	r.l.SliceTornDown(1001, r.now()) // quiet
	for i := range 20 {              // never
		r.l.SliceTornDown(2002, r.now().Add(time.Duration(i-30)*time.Second))
		r.l.SliceTornDown(4711, r.now().Add(time.Duration(i-30)*time.Second)) // nobody
	}
	auto.Never = named("carol")
	// Neither a restart that was told in time, nor the CLI at work meanwhile loses what was
	// counted.
	ctx := context.Background()
	if err := r.l.Flush(ctx); err != nil {
		t.Error(err)
	}
	if _, err := r.l.Add(ctx, rules(), "dave", false); err != nil {
		t.Error(err)
	}
	r.renew()
	plan, err := r.l.Plan(ctx, auto)
	if err != nil || changes(plan) != "enable alice (auto)\n" {
		t.Errorf("Plan: %v, %v", changes(plan), err)
	}
	r.want("earned", r.reconcile(auto), "enable alice (auto)\n", "alice", "dave")
	list, err := r.l.List(ctx, auto)
	if n, err := r.l.CountSet(); n != 2 || err != nil {
		t.Errorf("CountSet: %d, %v; want 2", n, err)
	}
	if err != nil || len(list) != 2 || list[0].Before == nil || *list[0].Before != 4 {
		t.Errorf("teardowns before: %+v, %v", list, err)
	}
	for range 30 { // sessions go on for 5 hours, then stop
		r.l.SessionEnded(1000, r.now())
		if got := r.reconcile(auto); got != "" {
			t.Fatalf("while sessions go on: %s", got)
		}
	}
	for range 24 * 6 {
		if got := r.reconcile(auto); got != "" {
			t.Fatalf("forgotten at once: %s", got)
		}
	}
	got := ""
	for range 7 {
		got += r.reconcile(auto)
	}
	r.want("forgotten", got, "disable alice (auto)\n", "dave")

	for i := range 4 {
		r.l.SliceTornDown(1000, r.now().Add(time.Duration(i-30)*time.Second))
	}
	r.want("earned again", r.reconcile(auto), "enable alice (auto)\n", "alice", "dave")
	if _, err := r.l.Remove(ctx, auto, "alice", false); err != nil {
		t.Error(err)
	}
	r.want("removed: to be earned anew", r.reconcile(auto), "", "dave")
	for i := range 4 {
		r.l.SliceTornDown(1000, r.now().Add(time.Duration(i-30)*time.Second))
	}
	r.want("earned anew", r.reconcile(auto), "enable alice (auto)\n", "alice", "dave")
	r.want("the rule off", r.reconcile(rules()), "disable alice (auto)\n", "dave")
}

func TestList(t *testing.T) {
	r := newRig(t)
	r.m.SetLinger("bob", true)
	r.m.SetLinger("stranger", true)
	r.reconcile(rules("alice"))
	set := r.now()
	r.later(time.Hour)
	r.l.opts.Rate = func(uid uint32) (float64, bool) { return 1.5, uid == 1000 }
	list, err := r.l.List(context.Background(), rules("alice", "bob", "carol"))
	if err != nil {
		t.Fatal(err)
	}
	rate := 1.5
	want := []User{
		{Name: "stranger", Lingers: true, SetBy: SetByAdministrator, Note: "there is no such user"},
		{UID: 1000, Known: true, Name: "alice", Lingers: true, Rule: "alice", Since: set, SetBy: SetByUs, After: &rate},
		{UID: 1001, Known: true, Name: "bob", Lingers: true, Rule: "bob", SetBy: SetByAdministrator},
		{UID: 2002, Known: true, Name: "carol", Rule: "carol"},
	}
	asked := cmpopts.IgnoreFields(User{}, "Since")
	if diff := cmp.Diff(want, list, asked); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	for _, u := range list {
		if u.Lingers == u.Since.IsZero() || u.Name == "alice" && !u.Since.Equal(set) {
			t.Errorf("%s: since %v", u.Name, u.Since)
		}
	}
	r.bus.Stop()
	list, err = r.l.List(context.Background(), rules("alice", "c*"))
	if err == nil || !strings.Contains(err.Error(), "logged in") || len(list) != 3 {
		t.Errorf("without a bus: %+v, %v", list, err)
	}
}

func TestManyUsers(t *testing.T) {
	r := newRig(t)
	passwd := ""
	var patterns []string
	var known []bustest.User
	for i := range uint32(100) {
		known = append(known, bustest.User{UID: 5000 + i, GID: 100, Name: fmt.Sprintf("user%02d", i)})
	}
	for _, u := range known {
		passwd += fmt.Sprintf("%s:x:%d:100::/:/bin/sh\n", u.Name, u.UID)
		patterns = append(patterns, "enable "+u.Name+" (5000-5999)\n")
	}
	r.write(r.root+"/etc/passwd", passwd, 0o644)
	r.m.SetKnown(known...)
	var names []string
	for _, u := range known {
		names = append(names, u.Name)
	}
	r.want("many", r.reconcile(rules("5000-5999")), strings.Join(patterns, ""), names...)
	r.want("again", r.reconcile(rules("5000-5999")), "", names...)
	before := len(r.m.LingerCalls())
	if before != 100 {
		t.Errorf("%d calls", before)
	}
}
