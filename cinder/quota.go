package cinder

// UsageOf is what a project has. Snapshots count in gigabytes too, as in Cinder (no_snapshot_gb_quota is false there).
func UsageOf(projectID string, volumes []Volume, snapshots []Snapshot) (u Usage) {
	for _, v := range volumes {
		if v.ProjectID == projectID {
			u.Volumes++
			u.Gigabytes += max(v.SizeGiB, v.NewGiB)
		}
	}
	for _, s := range snapshots {
		if s.ProjectID == projectID {
			u.Snapshots++
			u.Gigabytes += s.SizeGiB
		}
	}
	return u
}

// CheckVolume says whether a project may have one more volume of a size.
func (q Quotas) CheckVolume(has Usage, gib int) error {
	if q.Volumes >= 0 && has.Volumes >= q.Volumes {
		return Refuse("VolumeLimitExceeded", OverLimit, "", "", "maximum number of volumes allowed (%d) exceeded for quota 'volumes'", q.Volumes)
	}
	return q.CheckGigabytes(has, gib)
}

// CheckSnapshot says whether a project may have one more snapshot of a size.
func (q Quotas) CheckSnapshot(has Usage, gib int) error {
	if q.Snapshots >= 0 && has.Snapshots >= q.Snapshots {
		return Refuse("SnapshotLimitExceeded", OverLimit, "", "", "maximum number of snapshots allowed (%d) exceeded", q.Snapshots)
	}
	return q.CheckGigabytes(has, gib)
}

// CheckGigabytes says whether a project may have that many GiB more.
func (q Quotas) CheckGigabytes(has Usage, more int) error {
	if q.Gigabytes >= 0 && more > q.Gigabytes-has.Gigabytes {
		return Refuse("VolumeSizeExceedsAvailableQuota", OverLimit, "", "",
			"requested volume or snapshot exceeds allowed gigabytes quota: requested %dG, quota is %dG and %dG has been consumed", more, q.Gigabytes, has.Gigabytes)
	}
	return nil
}
