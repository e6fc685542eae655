"""The files of a tree: those git knows or would know; all of them where there is no repository."""
import pathlib
import subprocess

C_SUFFIXES = (".c", ".h", ".cu", ".cuh")


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.names = sorted(name for name in self._listed() if (self.root / name).is_file())

    def _listed(self):
        if (self.root / ".git").exists():
            done = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=self.root,
                                  capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.split("\0")[:-1]
        return [str(p.relative_to(self.root)) for p in self.root.rglob("*")]

    def text(self, name):
        return (self.root / name).read_text(errors="replace")
