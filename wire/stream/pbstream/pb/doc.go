// Package pb has the types that the Protocol Buffers compiler generates from compact.proto. They are for clients and
// for tests, which compare the hand-written codec of package pbstream with them. The server itself does not use them.
//
// To generate them again, with Debian's protobuf-compiler and google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 in
// the path:
//
//	go generate ./wire/stream/pbstream/pb
package pb

//go:generate protoc --go_out=. --go_opt=paths=source_relative compact.proto
