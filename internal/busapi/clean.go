package busapi

import (
	"reflect"
	"strings"
)

// clean is text fit for the bus, which ends a connection that sends a string with a NUL or with bytes that are no
// UTF-8. A cgroup's name may hold any bytes.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
}

// cleaned is a copy of v with every string in it clean. Lists and maps that are nil become empty ones.
func cleaned[T any](v T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	out.Set(reflect.ValueOf(v))
	scrub(out)
	return out.Interface().(T)
}

func scrub(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(clean(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			scrub(v.Field(i))
		}
	case reflect.Slice:
		fresh := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(fresh, v)
		for i := range fresh.Len() {
			scrub(fresh.Index(i))
		}
		v.Set(fresh)
	case reflect.Map: // its keys are ours
		fresh := reflect.MakeMapWithSize(v.Type(), v.Len())
		for it := v.MapRange(); it.Next(); {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(it.Value())
			scrub(value)
			fresh.SetMapIndex(it.Key(), value)
		}
		v.Set(fresh)
	}
}
