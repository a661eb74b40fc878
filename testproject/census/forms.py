"""The form that starts a scan."""

from itertools import islice
from pathlib import Path

import django
from django import forms

from testproject.census.source import find_files

MAX_FILES = 100_000


def default_folder() -> str:
    """The installed Django: a tree that is there wherever this site is."""
    return str(Path(django.__file__).parent)


class ScanForm(forms.Form):
    """Asks for a folder, and finds the files in it (`cleaned_data["paths"]`)."""

    folder = forms.CharField(initial=default_folder, max_length=1000, help_text="A folder on this machine.")

    def clean_folder(self) -> str:
        """Accept a folder that can be read; the rest of the form needs it."""
        folder = Path(self.cleaned_data["folder"]).expanduser()
        if not folder.is_dir():
            raise forms.ValidationError("There is no such folder.")
        return str(folder.resolve())

    def clean(self) -> None:
        """List the folder's Python files, which must be some, but not endless."""
        super().clean()
        if "folder" in self.cleaned_data:
            paths = list(islice(find_files(Path(self.cleaned_data["folder"])), MAX_FILES + 1))
            if not paths:
                self.add_error("folder", "There is no Python file in this folder.")
            if len(paths) > MAX_FILES:
                self.add_error("folder", f"There are more than {MAX_FILES:,} Python files in this folder.")
            self.cleaned_data["paths"] = paths
