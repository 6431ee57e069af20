// Generate writes objects as upstream's own serializers encode them, one line each:
// name, JSON and base64 protobuf, separated by tabs. Run it by ../generate.sh.
//
// The first part is what k8s.io/api publishes for every kind, with every field filled. The second part is made here:
// objects with zeros, empties and the special types that the published ones lack.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func main() {
	published(os.Args[1])
	for _, object := range objects() {
		write(object)
	}
}

// published writes the GA kinds of a folder of <group>.<version>.<kind>.json and .pb files.
func published(dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	check(err)
	sort.Strings(files)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if !strings.Contains(name, ".v1.") && !strings.Contains(name, ".v2.") {
			continue
		}
		text, err := os.ReadFile(file)
		check(err)
		wire, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".pb")
		check(err)
		line(name, text, wire)
	}
}

func write(object runtime.Object) {
	scheme := runtime.NewScheme()
	var text, wire bytes.Buffer
	check(jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme, scheme,
		jsonserializer.SerializerOptions{}).Encode(object, &text))
	check(protobuf.NewSerializer(scheme, scheme).Encode(object, &wire))
	gvk := object.GetObjectKind().GroupVersionKind()
	line(fmt.Sprintf("%s.%s.%s", gvk.Group, gvk.Version, gvk.Kind), text.Bytes(), wire.Bytes())
}

func line(name string, text, wire []byte) {
	var compact bytes.Buffer
	check(json.Compact(&compact, text))
	fmt.Printf("%s\t%s\t%s\n", name, compact.Bytes(), base64.StdEncoding.EncodeToString(wire))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func kind(group, version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{
		APIVersion: schema.GroupVersion{Group: group, Version: version}.String(), Kind: kind}
}

func ptr[T any](value T) *T { return &value }

// objects holds what the published files lack: absent structs, zeros behind pointers, empties, negative numbers,
// every form of IntOrString, Quantity, Time and of the JSON schema unions.
func objects() []runtime.Object {
	when := metav1.Date(2026, 11, 21, 7, 0, 1, 0, time.UTC)
	micro := metav1.NewMicroTime(time.Date(2026, 11, 21, 7, 0, 1, 123456000, time.UTC))
	meta := metav1.ObjectMeta{Name: "a", Namespace: "b", CreationTimestamp: when,
		Labels: map[string]string{"z": "1", "a": "", "m": "2"}}
	pod := corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "c", Image: "i:1",
			Args: []string{"", "x y", "\"\\\n"},
			Ports: []corev1.ContainerPort{{ContainerPort: 80}},
			Resources: corev1.ResourceRequirements{
				Limits: corev1.ResourceList{
					"cpu":               resource.MustParse("0.5"),
					"memory":            resource.MustParse("1024Mi"),
					"ephemeral-storage": resource.MustParse("1e3"),
				},
				Requests: corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("0")},
			},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
				TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 5},
			Env: []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{
				ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}}},
			SecurityContext: &corev1.SecurityContext{RunAsUser: ptr(int64(0)), Privileged: ptr(false)},
		}},
		Volumes: []corev1.Volume{
			{Name: "none"},
			{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
				SizeLimit: resource.NewQuantity(1<<30, resource.BinarySI)}}},
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: "s", DefaultMode: ptr(int32(0)), Optional: ptr(false)}}},
		},
		TerminationGracePeriodSeconds: ptr(int64(0)),
		NodeSelector:                  map[string]string{},
		Tolerations:                   []corev1.Toleration{{}},
		Priority:                      ptr(int32(-5)),
	}
	props := &apiextensionsv1.JSONSchemaProps{Type: "object",
		Default: &apiextensionsv1.JSON{Raw: []byte(`{"a":[1,2.5,null]}`)},
		Enum:    []apiextensionsv1.JSON{{Raw: []byte(`"x"`)}, {Raw: []byte(`1`)}},
		Maximum: ptr(1.5), Minimum: ptr(2.0), MaxLength: ptr(int64(0)),
		Items:                &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}},
		AdditionalItems:      &apiextensionsv1.JSONSchemaPropsOrBool{Allows: false},
		AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true},
		Dependencies: apiextensionsv1.JSONSchemaDependencies{
			"s": {Schema: &apiextensionsv1.JSONSchemaProps{}}, "p": {Property: []string{"q"}}},
		Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"spec": {Type: "object", XPreserveUnknownFields: ptr(true),
				AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &apiextensionsv1.JSONSchemaProps{}}},
			"list": {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{
				JSONSchemas: []apiextensionsv1.JSONSchemaProps{{Type: "integer"}, {}}}},
		},
	}
	return []runtime.Object{
		&corev1.Pod{TypeMeta: kind("", "v1", "Pod")},
		&corev1.Pod{TypeMeta: kind("", "v1", "Pod"), ObjectMeta: meta, Spec: pod,
			Status: corev1.PodStatus{StartTime: &when, ContainerStatuses: []corev1.ContainerStatus{{}}}},
		&appsv1.Deployment{TypeMeta: kind("apps", "v1", "Deployment"), ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{Replicas: ptr(int32(0)), Selector: &metav1.LabelSelector{},
				Template: corev1.PodTemplateSpec{Spec: pod},
				Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: ptr(intstr.FromString("25%")), MaxUnavailable: ptr(intstr.FromInt32(0))}}}},
		&appsv1.DaemonSet{TypeMeta: kind("apps", "v1", "DaemonSet")},
		&appsv1.StatefulSet{TypeMeta: kind("apps", "v1", "StatefulSet"), Spec: appsv1.StatefulSetSpec{
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}}},
		&appsv1.ControllerRevision{TypeMeta: kind("apps", "v1", "ControllerRevision"), Revision: -1,
			Data: runtime.RawExtension{Raw: []byte(`{"spec":{"template":null},"x":[]}`)}},
		&corev1.Service{TypeMeta: kind("", "v1", "Service"), ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Ports: []corev1.ServicePort{{Port: 80}, {Name: "b", Port: 81, TargetPort: intstr.FromString("web")}}}},
		&corev1.Secret{TypeMeta: kind("", "v1", "Secret"), ObjectMeta: meta, Immutable: ptr(false),
			Data: map[string][]byte{"b": {0, 255, 128}, "a": {}}},
		&corev1.ConfigMap{TypeMeta: kind("", "v1", "ConfigMap"), Data: map[string]string{"k": "v <&> \u2028 é 😀"},
			BinaryData: map[string][]byte{}},
		&corev1.Node{TypeMeta: kind("", "v1", "Node"), ObjectMeta: meta, Status: corev1.NodeStatus{
			Capacity: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("2000000Ki")},
			Images:   []corev1.ContainerImage{{Names: []string{"x"}, SizeBytes: 1 << 40}},
			Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "True", LastHeartbeatTime: when}}}},
		&corev1.Event{TypeMeta: kind("", "v1", "Event"), ObjectMeta: meta, FirstTimestamp: when, Count: 3,
			InvolvedObject: corev1.ObjectReference{Kind: "Pod"}},
		&corev1.Event{TypeMeta: kind("", "v1", "Event"), EventTime: micro,
			Series: &corev1.EventSeries{Count: 2, LastObservedTime: micro}},
		&coordinationv1.Lease{TypeMeta: kind("coordination.k8s.io", "v1", "Lease"), Spec: coordinationv1.LeaseSpec{
			RenewTime: &micro, HolderIdentity: ptr("")}},
		&batchv1.Job{TypeMeta: kind("batch", "v1", "Job"), Spec: batchv1.JobSpec{Suspend: ptr(false), Template: corev1.PodTemplateSpec{}}},
		&networkingv1.NetworkPolicy{TypeMeta: kind("networking.k8s.io", "v1", "NetworkPolicy"),
			Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}},
		&networkingv1.Ingress{TypeMeta: kind("networking.k8s.io", "v1", "Ingress"), Spec: networkingv1.IngressSpec{
			Rules: []networkingv1.IngressRule{{Host: "h"}, {IngressRuleValue: networkingv1.IngressRuleValue{
				HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/"}}}}}}}},
		&rbacv1.ClusterRole{TypeMeta: kind("rbac.authorization.k8s.io", "v1", "ClusterRole")},
		&certificatesv1.CertificateSigningRequest{TypeMeta: kind("certificates.k8s.io", "v1", "CertificateSigningRequest"),
			Spec: certificatesv1.CertificateSigningRequestSpec{Request: []byte("pem"),
				Extra: map[string]certificatesv1.ExtraValue{"e": {"1", ""}}}},
		&admissionv1.ValidatingAdmissionPolicy{TypeMeta: kind("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
			Spec: admissionv1.ValidatingAdmissionPolicySpec{MatchConstraints: &admissionv1.MatchResources{
				ResourceRules: []admissionv1.NamedRuleWithOperations{{ResourceNames: []string{"n"},
					RuleWithOperations: admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{"*"},
						Rule: admissionv1.Rule{APIGroups: []string{""}, Resources: []string{"pods"}}}}, {}}}}},
		&resourcev1.ResourceClaim{TypeMeta: kind("resource.k8s.io", "v1", "ResourceClaim"), Spec: resourcev1.ResourceClaimSpec{
			Devices: resourcev1.DeviceClaim{Config: []resourcev1.DeviceClaimConfiguration{{Requests: []string{"r"},
				DeviceConfiguration: resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{
					Driver: "d", Parameters: runtime.RawExtension{Raw: []byte(`{"k":1}`)}}}}, {}}}}},
		&apiextensionsv1.CustomResourceDefinition{TypeMeta: kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
			ObjectMeta: metav1.ObjectMeta{Name: "foos.example.com"},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: "example.com", Scope: "Namespaced",
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true,
					Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: props},
					Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}}}}},
		&apiregistrationv1.APIService{TypeMeta: kind("apiregistration.k8s.io", "v1", "APIService"),
			Spec: apiregistrationv1.APIServiceSpec{CABundle: []byte{1}}},
		&corev1.PodList{TypeMeta: kind("", "v1", "PodList"), ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "c",
			RemainingItemCount: ptr(int64(3))}, Items: []corev1.Pod{{ObjectMeta: meta}, {}}},
		&corev1.ConfigMapList{TypeMeta: kind("", "v1", "ConfigMapList")},
		&metav1.List{TypeMeta: kind("", "v1", "List"), Items: []runtime.RawExtension{{Raw: []byte(`{"kind":"X"}`)}}},
		&metav1.Status{TypeMeta: kind("", "v1", "Status"), Status: "Failure", Reason: "Invalid", Code: 422,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "FieldValueRequired", Field: "spec"}}}},
		&metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Raw: []byte(`{"kind":"Pod","apiVersion":"v1"}`)}},
		&metav1.DeleteOptions{TypeMeta: kind("", "v1", "DeleteOptions"), GracePeriodSeconds: ptr(int64(0)),
			PropagationPolicy: ptr(metav1.DeletePropagationForeground), Preconditions: &metav1.Preconditions{}},
		&metav1.PartialObjectMetadataList{TypeMeta: kind("meta.k8s.io", "v1", "PartialObjectMetadataList"),
			Items: []metav1.PartialObjectMetadata{{ObjectMeta: meta}}},
		&metav1.APIResourceList{TypeMeta: kind("", "v1", "APIResourceList"), GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Verbs: metav1.Verbs{"get", "list"}}, {Name: "none"}}},
	}
}
