// Command launcher starts the engine with the Python and the C library that lie beside it.
//
// It is linked statically, so that it runs where nothing else is installed. If the folder of the engine is appended to
// it as a ZIP archive (the one-file form), it unpacks that into a new temporary folder first. It then replaces itself:
// the engine keeps its process id, and no process stands between it and its signals. As `bin/python` it is the
// interpreter, which is how the engine starts other processes.
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const (
	prefix = "bytebrew-unpacked-"
	advice = "set TMPDIR to another folder, or take the form that is a folder (.tar.gz), which unpacks nothing"
	noExec = 8 // ST_NOEXEC of statvfs(3)

	special = ":;$" // separators of the folders of a library path, and what begins a variable in it
	noPath  = "cannot run in %s: put it into a folder without :, ; and $ in its path, or set TMPDIR to one"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bytebrew:", err)
		os.Exit(1)
	}
}

func run() error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot tell where its own file is (is /proc mounted?): %w", err)
	}
	root := filepath.Dir(executable)
	if filepath.Base(executable) == "python" && filepath.Base(root) == "bin" {
		return start(filepath.Dir(root), append([]string{"-I"}, os.Args[1:]...))
	}
	options := []string{"-I"}
	if archive, err := zip.OpenReader(executable); err == nil {
		if root, err = unpack(&archive.Reader); err != nil {
			return err
		}
		archive.Close()
		options = append(options, "-X", "one_file")
	} else if !errors.Is(err, zip.ErrFormat) {
		return fmt.Errorf("%s is damaged: %w", executable, err)
	}
	options = append(options, filepath.Join(root, "lib", "start.py"))
	return start(root, append(options, os.Args[1:]...))
}

// start replaces this process by the interpreter; it returns only if that fails.
func start(root string, arguments []string) error {
	loaders := glob(root, "lib/ld-*.so*")
	interpreters := glob(root, "bin/python3.*")
	if len(loaders) != 1 || len(interpreters) != 1 {
		return fmt.Errorf("%s lacks files of the engine; unpack all of the archive, and start the program in its folder", root)
	}
	if strings.ContainsAny(root, special) {
		return fmt.Errorf(noPath, root)
	}
	command := append([]string{
		loaders[0], "--inhibit-cache", "--library-path", filepath.Join(root, "lib"),
		"--argv0", filepath.Join(root, "bin", "python"), interpreters[0],
	}, arguments...)
	return fmt.Errorf("%s cannot be started: %w", loaders[0], syscall.Exec(loaders[0], command, os.Environ()))
}

// glob answers the paths below a folder that match; the folder's own path may have any characters.
func glob(folder, pattern string) []string {
	found, _ := fs.Glob(os.DirFS(folder), pattern)
	for number, name := range found {
		found[number] = filepath.Join(folder, name)
	}
	return found
}

// unpack writes the archive into a new temporary folder.
func unpack(archive *zip.Reader) (string, error) {
	parent, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", err
	}
	var mount syscall.Statfs_t
	if err := syscall.Statfs(parent, &mount); err != nil {
		return "", fmt.Errorf("cannot unpack itself into %s: %w; %s", parent, err, advice)
	}
	if mount.Flags&noExec != 0 {
		return "", fmt.Errorf("cannot unpack itself into %s, which is mounted noexec; %s", parent, advice)
	}
	if strings.ContainsAny(parent, special) {
		return "", fmt.Errorf(noPath, parent)
	}
	removeAbandoned(parent)
	root, err := claim(parent)
	if err == nil {
		err = write(archive, root)
	}
	if err != nil {
		os.RemoveAll(root)
		return "", fmt.Errorf("cannot unpack itself into %s: %w; %s", parent, err, advice)
	}
	return root, nil
}

// claim makes a folder and locks it, with a descriptor that outlives the call of exec, until the engine has ended.
func claim(parent string) (string, error) {
	for {
		root, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return "", err
		}
		if lock(root) >= 0 {
			return root, nil
		} // another start has just taken it for an abandoned one
	}
}

// removeAbandoned deletes the folders of this user's engines that were killed.
func removeAbandoned(parent string) {
	for _, root := range glob(parent, prefix+"*") {
		var status syscall.Stat_t
		if syscall.Lstat(root, &status) != nil || status.Uid != uint32(os.Geteuid()) {
			continue
		}
		if locked := lock(root); locked >= 0 {
			os.RemoveAll(root)
			syscall.Close(locked)
		}
	}
}

// lock locks a folder and answers the descriptor, or -1 if another process holds it or has deleted it.
func lock(root string) int {
	opened, err := syscall.Open(root, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return -1
	}
	var held, there syscall.Stat_t
	if syscall.Flock(opened, syscall.LOCK_EX|syscall.LOCK_NB) == nil &&
		syscall.Fstat(opened, &held) == nil && syscall.Lstat(root, &there) == nil && held.Ino == there.Ino {
		return opened
	}
	syscall.Close(opened)
	return -1
}

// write unpacks with two workers, as most of the time goes to inflating.
func write(archive *zip.Reader, root string) error {
	for _, entry := range archive.File {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(entry.Name)), 0o700); err != nil {
			return err
		}
	}
	entries := make(chan *zip.File)
	failures := make([]error, 2)
	var workers sync.WaitGroup
	for number := range failures {
		workers.Add(1)
		go func(failure *error) {
			defer workers.Done()
			for entry := range entries {
				if *failure == nil {
					*failure = writeOne(entry, filepath.Join(root, entry.Name))
				}
			}
		}(&failures[number])
	}
	for _, entry := range archive.File {
		entries <- entry
	}
	close(entries)
	workers.Wait()
	return errors.Join(failures...)
}

func writeOne(entry *zip.File, path string) error {
	source, err := entry.Open()
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, entry.Mode().Perm()&0o700)
	if err != nil {
		return err
	}
	if _, err = io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
