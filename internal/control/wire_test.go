package control

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim"
)

// fill gives every exported field below v a value of its own that the bus can carry.
func fill(v reflect.Value, n *int64) {
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.UnixMicro(*n * 1e9)
		return
	case *time.Duration:
		*x = time.Duration(*n) * time.Millisecond
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString("w" + time.Duration(*n).String())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		v.SetInt(*n)
	}
}

func filled[T any]() T {
	v := reflect.New(reflect.TypeFor[T]()).Elem()
	var n int64
	fill(v, &n)
	return v.Interface().(T)
}

var unexported = cmpopts.IgnoreUnexported(reclaim.Latency{}, reclaim.Outcome{})

// What goes over the bus comes back with every field: one that is forgotten on the way is seen here.
func TestWire(t *testing.T) {
	status := filled[Status]()
	gotStatus, err := FromBusStatus(BusStatus(status))
	if diff := cmp.Diff(status, gotStatus, unexported); diff != "" || err != nil {
		t.Errorf("status, %v:\n%s", err, diff)
	}
	survey := filled[reclaim.Survey]()
	survey.PassedOver = reclaim.PassedOver{} // which has clients read for themselves
	gotSurvey, err := FromBusSurvey(BusSurvey(survey, 0))
	if diff := cmp.Diff(survey, gotSurvey); diff != "" || err != nil {
		t.Errorf("survey, %v:\n%s", err, diff)
	}
	report := filled[ledger.Report]()
	if diff := cmp.Diff(report, FromBusLeakers(BusLeakers(report, ""))); diff != "" {
		t.Error("leakers:\n" + diff)
	}
	outcomes := filled[[]reclaim.Outcome]()
	for i := range outcomes {
		outcomes[i].Latency = nil // not for clients
	}
	if diff := cmp.Diff(outcomes, FromBusOutcomes(BusOutcomes(outcomes)), unexported); diff != "" {
		t.Error("outcomes:\n" + diff)
	}
}

// Nothing is nothing again, and never the year 1970.
func TestWireZero(t *testing.T) {
	got, err := FromBusStatus(BusStatus(Status{}))
	if err != nil || !got.Since.IsZero() || !got.Engine.Totals.LastReap.IsZero() || got.Engine.Pinned == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got := BusStatus(Status{Engine: reclaim.Status{Totals: reclaim.Totals{Freed: -1}}}); got.Reaped != 0 {
		t.Errorf("-1 freed became %d", got.Reaped)
	}
}
