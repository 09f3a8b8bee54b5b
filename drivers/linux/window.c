// SPDX-License-Identifier: GPL-2.0-only
/*
 * window.c - the window as normal memory: write-back, wherever firmware has put it.
 *
 * SeaBIOS puts the BAR below 4 GiB and declares that range uncached, and memremap() then grants
 * less than was asked for without a word.  So: look at what was granted; move the BAR; map by page
 * frames where the kernel can; and say which it was.
 */
#include <linux/io.h>
#include <linux/vmalloc.h>
#ifdef CONFIG_X86
#include <asm/pgtable_types.h>
#endif
#include "bridge.h"

/* What memremap() granted. */
static bool is_write_back(const void *window)
{
#ifdef CONFIG_X86
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)window, &level);

	return pte && !(pte_val(*pte) & (_PAGE_PWT | _PAGE_PCD));
#else
	return true;
#endif
}

static bool is_placed_well(struct pci_dev *pdev)
{
	void *page = memremap(pci_resource_start(pdev, VBUS_WINDOW_BAR), PAGE_SIZE, MEMREMAP_WB);
	bool well = page && is_write_back(page);

	if (page)
		memunmap(page);
	return well;
}

/*
 * Before anything is requested or mapped.  A 64-bit BAR on the root bus goes above 4 GiB, where
 * nothing is declared uncached; one behind a bridge stays in that bridge's range.
 */
int vbus_window_place(struct pci_dev *pdev)
{
	resource_size_t size = pci_resource_len(pdev, VBUS_WINDOW_BAR);
	u16 command;
	int err;

	if (is_placed_well(pdev))
		return 0;
	/* Nobody may answer at an address that is being written half by half. */
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_write_config_word(pdev, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	pci_release_resource(pdev, VBUS_WINDOW_BAR);
	err = pci_assign_resource(pdev, VBUS_WINDOW_BAR);
	pci_write_config_word(pdev, PCI_COMMAND, command);
	if (err || pci_resource_len(pdev, VBUS_WINDOW_BAR) != size) {
		pci_err(pdev, "the window found no other place; put the device on the root bus\n");
		return err ? err : -ENOSPC;
	}
	return 0;
}

#ifdef CONFIG_VMAP_PFN
/* The window is memory, whatever the MTRRs say of PCI space: map its frames as such. */
static void *map_frames(resource_size_t start, resource_size_t size)
{
	unsigned long count = size >> PAGE_SHIFT, i;
	unsigned long *frames = kvmalloc_array(count, sizeof(*frames), GFP_KERNEL);
	void *window;

	if (!frames)
		return NULL;
	for (i = 0; i < count; i++)
		frames[i] = (start >> PAGE_SHIFT) + i;
	window = vmap_pfn(frames, count, PAGE_KERNEL);
	kvfree(frames);
	return window;
}
#else
static void *map_frames(resource_size_t start, resource_size_t size)
{
	return NULL;
}
#endif

int vbus_window_map(struct vbus_bridge *bridge)
{
	resource_size_t start = pci_resource_start(bridge->pdev, VBUS_WINDOW_BAR);
	void *window;

	bridge->size = pci_resource_len(bridge->pdev, VBUS_WINDOW_BAR);
	bridge->window = memremap(start, bridge->size, MEMREMAP_WB);
	bridge->mapping = "write-back";
	if (!bridge->window)
		return -ENOMEM;
	if (is_write_back(bridge->window))
		return 0;

	window = map_frames(start, bridge->size);
	if (window) {
		memunmap(bridge->window);
		bridge->window = window;
		bridge->vmapped = true;
		bridge->mapping = "write-back by page frames";
		return 0;
	}
	pci_warn(bridge->pdev, "the window is uncached; it works, slowly\n");
	bridge->mapping = "uncached";
	return 0;
}

void vbus_window_unmap(struct vbus_bridge *bridge)
{
	if (!bridge->window)
		return;
	if (bridge->vmapped)
		vunmap(bridge->window);
	else
		memunmap(bridge->window);
	bridge->window = NULL;
}
