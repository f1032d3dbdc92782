//go:build programs

// Question: which programs does a node of the tests need? Nothing of this file is built: it keeps
// what these programs import in go.mod and go.sum.
package programs

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
