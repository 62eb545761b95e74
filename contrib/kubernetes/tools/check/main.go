// check builds kustomizations and holds what comes out against the Kubernetes API: strictly decoded into its types, so
// that a field that there is not, or a value of another type, is an error; and against the OpenAPI schema that
// kustomize brings along, for what is required.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	failed := false
	for _, dir := range os.Args[1:] {
		n, err := check(dir)
		if err != nil {
			failed = true
			fmt.Fprintf(os.Stderr, "%s: %v\n", dir, err)
			continue
		}
		fmt.Printf("%s: %d objects, all valid\n", dir, n)
	}
	if failed || len(os.Args) < 2 {
		os.Exit(1)
	}
}

// check builds one kustomization and returns how many valid objects it has.
func check(dir string) (int, error) {
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, r := range m.Resources() {
		text, err := r.AsYAML()
		if err == nil {
			err = valid(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.CurId(), err))
		}
	}
	return m.Size(), errors.Join(errs...)
}

// kinds are the objects that may come out; another one wants a line here.
var kinds = map[string]func() any{
	"v1 Namespace":      func() any { return &corev1.Namespace{} },
	"v1 ConfigMap":      func() any { return &corev1.ConfigMap{} },
	"apps/v1 DaemonSet": func() any { return &appsv1.DaemonSet{} },
}

// valid tells what is wrong with one object.
func valid(text []byte) error {
	node, err := kyaml.Parse(string(text))
	if err != nil {
		return err
	}
	kind := node.GetApiVersion() + " " + node.GetKind()
	fresh, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("no type is known for %s", kind)
	}
	if err := yaml.UnmarshalStrict(text, fresh()); err != nil {
		return err
	}
	schema := openapi.SchemaForResourceType(kyaml.TypeMeta{APIVersion: node.GetApiVersion(), Kind: node.GetKind()})
	if schema == nil {
		return fmt.Errorf("no schema for %s", kind)
	}
	var all any
	if err := yaml.Unmarshal(text, &all); err != nil {
		return err
	}
	return errors.Join(required(all, schema, "")...)
}

// required finds what the schema wants and the value has not.
func required(v any, s *openapi.ResourceSchema, path string) []error {
	var errs []error
	switch v := v.(type) {
	case map[string]any:
		for _, name := range s.Schema.Required {
			if _, ok := v[name]; !ok {
				errs = append(errs, fmt.Errorf("%s.%s is required", strings.TrimPrefix(path, "."), name))
			}
		}
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if f := s.Field(name); f != nil {
				errs = append(errs, required(v[name], f, path+"."+name)...)
			}
		}
	case []any:
		if e := s.Elements(); e != nil {
			for i, item := range v {
				errs = append(errs, required(item, e, fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	return errs
}
