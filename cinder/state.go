package cinder

// InTheMaking says whether the volume is being made.
func (v Volume) InTheMaking() bool { return v.Status == Creating || v.Status == Downloading }

// CheckNotCopied refuses what would change a volume while a snapshot or another volume is made of it.
func (v Volume) CheckNotCopied(volumes []Volume, snapshots []Snapshot) error {
	for _, o := range volumes {
		if o.SourceID == v.ID && o.InTheMaking() {
			return invalidVolume(v.ID, "volume %s is being made of it; wait until that is available", o.ID)
		}
	}
	for _, s := range snapshots {
		if s.VolumeID == v.ID && s.Status == Creating {
			return invalidVolume(v.ID, "snapshot %s of it is being made; wait until that is available", s.ID)
		}
	}
	return nil
}
