"""A service whose program is replaced while it runs."""

import shutil
import subprocess

from .http import Service
from .oneshot import binary


class Replaceable(Service):
    """A service that runs a copy of the program, which can be replaced, and its configuration
    file."""

    def __init__(self, directory, *args, **kw):
        self.program, self.good, self.config = directory / "procstar", directory / "good", directory / "procstar.toml"
        for copy in (self.program, self.good):
            shutil.copy(binary(), copy)
        self.config.write_text("")
        super().__init__("--config", self.config, *args, program=self.program, **kw)

    def replace(self, text):
        """Replaces the program by this one, as a new file."""
        new = self.program.with_name("new")
        new.write_bytes(text)
        new.chmod(0o755)
        new.rename(self.program)

    def upgrade(self):
        """Upgrades the service; returns the finished command."""
        argv = [self.good, "upgrade", str(self.proc.pid)]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=60)
