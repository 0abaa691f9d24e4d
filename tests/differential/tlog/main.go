// Answers what golang.org/x/mod/sumdb thinks of trees, proofs and notes: JSON in, JSON out.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Leaves [][]byte   // data of the leaves of one tree
	Pairs  [][2]int64 // a size, and a leaf's index or an older size in it
	Proofs []proof
	Signed []signed
	Tiled  []tiled
}

// A folder in the layout of c2sp.org/tlog-tiles, and the keys that must have signed its checkpoint.
type tiled struct {
	Folder, Log, Cosigner string
}

// A c2sp.org/tlog-proof with its leaf's data and the keys that must have signed, and no others.
type proof struct {
	File, Leaf    []byte
	Log, Cosigner string
	Witnesses     []string
}

type signed struct {
	Text, Signer string
}

type answer struct {
	Roots      [][]byte   // of each size from 0 on
	Inclusions [][][]byte // of index pair[1] in size pair[0]
	Prefixes   [][][]byte // of size pair[1] in size pair[0]
	Proofs     []string   // empty, or why the proof does not hold
	Notes      [][]byte
	Tiled      []string // how many entries were read, or why not
}

// The cosigner's key, type 4 (c2sp.org/tlog-cosignature), which the package does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	text := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(c.key, []byte(text), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	material, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || material[0] != 4 || len(material) != 33 {
		return nil, errors.New("not a cosigner's key")
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(material)))
	return cosigner{parts[0], binary.BigEndian.Uint32(sum[:]), material[1:]}, nil
}

func check(p proof) error {
	head, rest, found := strings.Cut(string(p.File), "\n\n")
	if !found {
		return errors.New("no empty line")
	}
	lines := strings.Split(head, "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return errors.New("no title or no index")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		path = append(path, hash)
	}
	logKey, err := note.NewVerifier(p.Log)
	if err != nil {
		return err
	}
	cosignerKey, err := newCosigner(p.Cosigner)
	if err != nil {
		return err
	}
	known := []note.Verifier{logKey, cosignerKey}
	for _, vkey := range p.Witnesses {
		witness, err := newCosigner(vkey)
		if err != nil {
			return err
		}
		known = append(known, witness)
	}
	opened, err := note.Open([]byte(rest), note.VerifierList(known...))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != len(known) {
		return errors.New("not signed by all")
	}
	rows := strings.Split(opened.Text, "\n")
	if len(rows) < 3 || rows[0] != logKey.Name() {
		return errors.New("not a head of this log")
	}
	size, err := strconv.ParseInt(rows[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(rows[2])
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, size, root, index, tlog.RecordHash(p.Leaf))
}

// The tiles of a folder: the package's own paths also name the height, and call entries data.
type folder string

func (f folder) Height() int { return 8 }
func (f folder) path(t tlog.Tile) string {
	path := strings.Replace(t.Path(), "tile/8/", "tile/", 1)
	return filepath.Join(string(f), strings.Replace(path, "tile/data/", "tile/entries/", 1))
}
func (f folder) SaveTiles(tiles []tlog.Tile, data [][]byte) {}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(f.path(tile))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func readTiled(t tiled) (int64, error) {
	data, err := os.ReadFile(filepath.Join(t.Folder, "checkpoint"))
	if err != nil {
		return 0, err
	}
	logKey, err := note.NewVerifier(t.Log)
	if err != nil {
		return 0, err
	}
	cosignerKey, err := newCosigner(t.Cosigner)
	if err != nil {
		return 0, err
	}
	opened, err := note.Open(data, note.VerifierList(logKey, cosignerKey))
	if err != nil {
		return 0, err
	}
	rows := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(rows[1], 10, 64)
	if err != nil {
		return 0, err
	}
	root, err := tlog.ParseHash(rows[2])
	if err != nil {
		return 0, err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, folder(t.Folder))
	for first := int64(0); first < size; first += 256 {
		width := size - first
		if width > 256 {
			width = 256
		}
		entries, err := folder(t.Folder).ReadTiles([]tlog.Tile{{H: 8, L: -1, N: first / 256, W: int(width)}})
		if err != nil {
			return 0, err
		}
		rest := entries[0]
		for index := first; index < first+width; index++ {
			if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
				return 0, errors.New("a bundle is too short")
			}
			length := 2 + int(binary.BigEndian.Uint16(rest))
			hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				return 0, err
			}
			if hashes[0] != tlog.RecordHash(rest[2:length]) {
				return 0, fmt.Errorf("entry %d is another one", index)
			}
			rest = rest[length:]
		}
		if len(rest) > 0 {
			return 0, errors.New("a bundle is too long")
		}
	}
	return size, nil
}

func sliced(hashes []tlog.Hash) [][]byte {
	made := [][]byte{}
	for _, hash := range hashes {
		made = append(made, append([]byte{}, hash[:]...))
	}
	return made
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	var q question
	must(json.NewDecoder(os.Stdin).Decode(&q))
	var a answer
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	for size := int64(0); size <= int64(len(q.Leaves)); size++ {
		root, err := tlog.TreeHash(size, reader)
		must(err)
		a.Roots = append(a.Roots, root[:])
		if size < int64(len(q.Leaves)) {
			hashes, err := tlog.StoredHashes(size, q.Leaves[size], reader)
			must(err)
			stored = append(stored, hashes...)
		}
	}
	for _, pair := range q.Pairs {
		record, err := tlog.ProveRecord(pair[0], pair[1], reader)
		must(err)
		a.Inclusions = append(a.Inclusions, sliced(record))
		tree, err := tlog.ProveTree(pair[0], pair[1]+1, reader)
		must(err)
		a.Prefixes = append(a.Prefixes, sliced(tree))
	}
	for _, p := range q.Proofs {
		said := ""
		if err := check(p); err != nil {
			said = err.Error()
		}
		a.Proofs = append(a.Proofs, said)
	}
	for _, t := range q.Tiled {
		read, err := readTiled(t)
		said := strconv.FormatInt(read, 10)
		if err != nil {
			said = err.Error()
		}
		a.Tiled = append(a.Tiled, said)
	}
	for _, s := range q.Signed {
		signer, err := note.NewSigner(s.Signer)
		must(err)
		made, err := note.Sign(&note.Note{Text: s.Text}, signer)
		must(err)
		a.Notes = append(a.Notes, made)
	}
	must(json.NewEncoder(os.Stdout).Encode(a))
}
