"""The 256 words in which two people compare keys by phone: short, common, unlike each other."""

WORDS = tuple(
    """
    acorn actor album alpine amber anchor angle anvil apple april arrow artist atlas autumn
    bacon badge bagel bamboo banjo barrel basil basket beach beaver beetle bell birch bison
    blanket blossom bottle breeze bridge bronze bucket buffalo butter cabin cactus camel candle
    canoe canyon carbon cargo carpet castle cedar cello chalk cherry chess circus clover cobra
    cocoa coffee comet compass copper coral cotton cradle crayon cricket crystal curtain cymbal
    dagger daisy dancer desert diamond dinner doctor dolphin domino donkey dragon drum eagle
    easel echo eleven ember emerald engine estate fabric falcon farmer feather fiddle finger
    flannel flute forest fossil fox fridge galaxy garden garlic gecko ginger giraffe glacier
    goblet golf grape gravel guitar hammer harbor harp hazel helmet heron honey hotel hunter
    iceberg igloo indigo insect iron island ivory jacket jaguar jasmine jelly jigsaw judge
    jungle kayak kernel kettle kitten koala ladder lantern lemon leopard library lily lion
    lizard lobster locket lotus lunar magnet mango maple marble meadow melon mercury mirror
    monkey mosaic moth muffin museum mustard napkin nectar needle nickel ninja novel nutmeg
    oasis ocean octave olive onion opera orange orbit orchid otter oyster paddle palace panda
    paper parrot peach pebble pelican pencil pepper piano pigeon pillow pirate planet plum
    pocket pony potato prism pumpkin puzzle quartz quilt rabbit radio rainbow raven ribbon river
    robin rocket ruby saddle salmon sandal satin saturn shadow shovel silver singer sketch
    spider spruce squid stable stone sugar summer sunset tango teapot temple thunder tiger
    timber tomato tractor trumpet tulip tunnel turtle unicorn valley vanilla velvet violin
    walnut whale willow yogurt
    """.split()  # noqa: SIM905 - a column of 256 quoted words is worse to read
)
