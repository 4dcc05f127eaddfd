# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes short, simple English stories from a grammar, for a very small model to learn from.

A story is an opening, some daily life, one of thirteen plots, and an ending. Every beat of a plot has several wordings,
and people, places, things and feelings are drawn anew each time, so that the text is regular enough for a few million
parameters and varied enough not to be learned by heart. All of it is this project's own text.
"""

import random

ANIMALS = [  # kind, home, food, what its body does well, where it is met
    ("fox", "den", "berries", "run fast", "forest"), ("rabbit", "burrow", "carrots", "hop high", "meadow"),
    ("bear", "cave", "honey", "climb trees", "forest"), ("mouse", "hole", "cheese", "squeeze through small gaps", "barn"),
    ("owl", "tree", "seeds", "see in the dark", "forest"), ("hedgehog", "nest of leaves", "apples", "roll into a ball", "garden"),
    ("duck", "nest", "bread", "swim", "pond"), ("frog", "pond", "flies", "jump far", "pond"),
    ("cat", "basket", "fish", "walk without a sound", "village"), ("dog", "kennel", "bones", "follow any smell", "farm"),
    ("squirrel", "tree", "nuts", "leap from branch to branch", "forest"), ("goat", "shed", "grass", "climb steep rocks", "mountain"),
    ("wolf", "cave", "meat", "hear every sound", "mountain"), ("deer", "forest", "leaves", "run like the wind", "forest"),
    ("turtle", "shell", "leaves", "wait", "beach"), ("sparrow", "nest", "crumbs", "fly", "village"),
    ("crow", "tree", "corn", "remember every face", "field"), ("pony", "stable", "hay", "gallop", "farm"),
    ("lamb", "barn", "grass", "skip", "farm"), ("badger", "den", "roots", "dig", "forest"),
    ("beaver", "lodge", "bark", "build", "river"), ("goose", "yard", "grain", "fly far", "farm"),
    ("otter", "river", "fish", "dive", "river"), ("mole", "tunnel", "worms", "dig in the dark", "garden"),
    ("donkey", "stable", "thistles", "carry heavy loads", "farm"), ("swan", "lake", "water plants", "glide", "lake"),
    ("bee", "hive", "honey", "find flowers", "garden"), ("snail", "shell", "lettuce", "climb walls", "garden"),
]
PEOPLE = [  # kind, gender
    ("girl", "f"), ("boy", "m"), ("girl", "f"), ("boy", "m"), ("farmer", "m"), ("baker", "m"), ("miller", "m"), ("fisherman", "m"),
    ("shepherd", "m"), ("princess", "f"), ("prince", "m"), ("woodcutter", "m"), ("tailor", "m"), ("old woman", "f"),
    ("old man", "m"), ("young queen", "f"), ("young king", "m"), ("shoemaker", "m"), ("weaver", "f"), ("sailor", "m"),
    ("gardener", "f"), ("painter", "f"), ("potter", "f"), ("blacksmith", "m"), ("maid", "f"), ("giant", "m"),
]
NAMES_F = "Anna Lily Rose Mary Clara Ella Nora Greta Lucy Molly Ada Ivy Hanna Mina Tilda Flora Bella Ruth June Wren".split()
NAMES_M = "Tom Jack Peter Hans Ben Sam Otto Finn Max Leo Oliver Will Hugo Noah Felix Robin Karl Toby Emil Jasper".split()
ADJ = ["little", "small", "young", "brave", "kind", "clever", "shy", "curious", "gentle", "quiet", "proud", "lazy", "cheerful",
       "poor", "lonely", "merry", "careful", "honest", "busy", "patient", "stubborn", "silly", "wise", "hungry", "grumpy"]
PLACES = ["a small village", "a deep forest", "a green valley", "a quiet farm", "a high mountain", "a wide river", "a little town",
          "a blue lake", "an old castle", "a sunny meadow", "the sea", "a stone bridge", "a dark wood", "an old mill", "a windy hill",
          "a busy market", "a walled garden", "a snowy land", "a long road", "a warm beach"]
BY = {"a small village": "in", "a deep forest": "in", "a green valley": "in", "a quiet farm": "on", "a high mountain": "on",
      "a wide river": "by", "a little town": "in", "a blue lake": "by", "an old castle": "in", "a sunny meadow": "near",
      "the sea": "by", "a stone bridge": "near", "a dark wood": "at the edge of", "an old mill": "beside", "a windy hill": "on",
      "a busy market": "near", "a walled garden": "behind", "a snowy land": "in", "a long road": "beside", "a warm beach": "near"}
SPOTS = ["under the bed", "behind the old oak", "in the tall grass", "near the well", "by the river", "behind the barn",
         "under a flat stone", "in the hollow tree", "along the path", "under the bridge", "beside the pond", "in the kitchen",
         "among the flowers", "on the hill", "near the garden gate", "in the hay", "by the mill", "at the edge of the wood"]
THINGS = ["red ball", "silver key", "golden ring", "blue hat", "wooden boat", "little bell", "warm scarf", "old map", "shiny coin",
          "green kite", "music box", "red shoe", "white feather", "brass lamp", "paper crown", "small drum", "soft blanket",
          "glass bead", "tin whistle", "yellow ribbon", "wooden horse", "bag of seeds", "picture book", "copper pot", "pearl button"]
FOODS = ["bread", "warm soup", "apple pie", "honey cakes", "sweet berries", "cheese", "pancakes", "roasted nuts", "plum jam",
         "oat porridge", "ginger cookies", "baked apples", "pear tart", "fresh milk", "mushroom stew"]
COLORS = "red blue green yellow white golden silver purple brown black orange pink gray".split()
WEATHER = ["The sun was shining", "It was raining", "Snow was falling", "A soft wind was blowing", "The sky was gray",
           "The air was warm", "It was a cold morning", "The fog was thick", "The birds were singing", "The leaves were turning red",
           "The stars were bright", "The morning was still", "The flowers were open", "Clouds were racing across the sky"]
TIMES = ["One day", "One morning", "One evening", "One night", "One spring day", "One cold winter day", "One fine summer morning",
         "One autumn afternoon", "Early one morning", "One rainy day", "One day in May", "On a Sunday", "At the end of the summer",
         "On the first day of spring", "On market day"]
CHORES = ["fetched water from the well", "swept the floor", "picked flowers", "fed the hens", "gathered wood", "baked bread",
          "sang to the birds", "watched the clouds", "counted the stars", "played in the grass", "worked in the garden",
          "walked along the river", "mended old clothes", "climbed the tall trees", "told stories by the fire", "helped the neighbors",
          "looked for berries", "slept in the sun", "danced in the rain", "painted small pictures", "listened to the wind"]
SAD = ["sad", "afraid", "worried", "tired", "lonely", "upset", "ashamed", "cold and hungry"]
GLAD = ["happy", "glad", "proud", "full of joy", "very pleased", "delighted", "thankful", "merry"]
MORALS = ["A kind heart is worth more than gold.", "Good friends help one another.", "It is better to share than to keep everything.",
          "Small steps can lead a long way.", "The truth is always the best answer.", "Even the smallest can do great things.",
          "Those who wait are often rewarded.", "There is no place like home.", "Being brave means trying even when you are afraid.",
          "Listen before you speak.", "Pride comes before a fall.", "Work first, and play will be sweeter.",
          "A gift made with love is the best gift of all.", "Look carefully, and you will find what you need."]
ENDS = ["And they all lived happily ever after.", "And from that day on they were the best of friends.",
        "And that is the end of the story.", "That night everyone slept well.", "And if they have not moved away, they live there still.",
        "The moon came up, and all was quiet again.", "And they never forgot that day.", "They laughed and sang until the stars came out.",
        "And every year, on that same day, they told the story again.", "Then they all sat down together and ate {food}."]


def an(word):
    return ("an " if word[0] in "aeiou" or word.startswith("honest") else "a ") + word


def cap(text):
    return text[0].upper() + text[1:]


class Being:
    """Somebody in a story, and the words that stand for them."""

    def __init__(self, r, animal=None, used=()):
        while True:
            self.animal = r.random() < 0.6 if animal is None else animal
            if self.animal:
                self.kind, self.home, self.food, self.skill, self.land = r.choice(ANIMALS)
                self.g = r.choice("fmfmn")
            else:
                self.kind, self.g = r.choice(PEOPLE)
                self.home, self.food = r.choice(["house", "cottage", "hut", "room"]), r.choice(FOODS)
                self.skill, self.land = r.choice(["sing", "tell stories", "bake", "climb", "whistle", "read old books"]), "village"
            if self.kind not in used:
                break
        self.adj = r.choice(ADJ)
        while self.adj.split()[0] in self.kind or (self.adj == "young" and "old" in self.kind):
            self.adj = r.choice(ADJ)
        self.name = None
        if r.random() < 0.55:
            if self.g == "n":
                self.g = r.choice("fm")
            self.name = r.choice(NAMES_F if self.g == "f" else NAMES_M)
        self.he, self.him, self.his = {"f": ("she", "her", "her"), "m": ("he", "him", "his"), "n": ("it", "it", "its")}[self.g]
        self.the = "the " + self.kind
        self.full = an(self.adj + " " + self.kind)

    def ref(self, r):
        """A name or a noun phrase, for the subject of a sentence."""
        if self.name and r.random() < 0.75:
            return self.name
        return self.the


class Story:
    def __init__(self, r):
        self.r = r
        self.h = Being(r)
        self.f = Being(r, used=(self.h.kind,))
        while self.f.name and self.f.name == self.h.name:
            self.f = Being(r, used=(self.h.kind,))
        self.place = r.choice(PLACES)
        self.thing, self.food, self.color = r.choice(THINGS), r.choice(FOODS), r.choice(COLORS)
        self.noun = self.thing.split()[-1] if not self.thing.startswith("bag") else "bag of seeds"
        self.spots = r.sample(SPOTS, 3)
        self.out = []
        self.met = False

    def c(self, *options):
        return self.r.choice(options)

    def say(self, *options):
        """Adds one of the wordings, in which {..} are filled from the story."""
        text = self.r.choice(options)
        h, f = self.h, self.f
        text = text.format(
            h=h.ref(self.r), H=cap(h.ref(self.r)), hthe=h.the, he=h.he, He=cap(h.he), him=h.him, his=h.his, His=cap(h.his), hhome=h.home,
            hfood=h.food, hskill=h.skill, f=f.ref(self.r) if self.met else f.full, F=cap(f.ref(self.r)), fa=f.full, fthe=f.the, fhe=f.he,
            Fhe=cap(f.he), fhim=f.him, fhis=f.his, fhome=f.home, ffood=f.food, fskill=f.skill, thing=self.thing, athing=an(self.thing),
            noun=self.noun, food=self.food, color=self.color, s0=self.spots[0], s1=self.spots[1], s2=self.spots[2],
            when=self.r.choice(TIMES), sad=self.r.choice(SAD), glad=self.r.choice(GLAD), sad2=self.r.choice(SAD),
            glad2=self.r.choice(GLAD), weather=self.r.choice(WEATHER), chore=self.r.choice(CHORES), num=self.c("two", "three", "four", "five", "seven"))
        self.out.append(cap(text))

    def maybe(self, p, *options):
        if self.r.random() < p:
            self.say(*options)

    def br(self):
        self.out.append("\n\n")

    def meet(self, *how):
        """The second figure enters, and is named if it has a name."""
        self.say(*how)
        self.met = True
        if self.f.name:
            self.say("{Fhe} was called %s." % self.f.name, "%s name was %s." % (cap(self.f.his), self.f.name))

    def opening(self):
        h, at = self.h, BY[self.place] + " " + self.place
        if self.c(0, 1, 1):
            start = self.c("Once upon a time there was {a}", "Once upon a time, {at}, there lived {a}", "Once there was {a}",
                           "Long ago, {at}, there lived {a}", "There once was {a}", "Once upon a time {a} lived {at}",
                           "Many years ago {a} lived {at}", "{At} lived {a}", "A long time ago there was {a}", "Once upon a time there lived {a}")
            has_at = "{at}" in start.lower()
            who = h.full + (self.c(" named %s", " called %s") % h.name if h.name else "")
            text = start.format(a=who, at=at, At=cap(at))
            if h.name or "lived {at}" in start:
                text += "."
            else:
                text += self.c(".", " who loved %s." % h.food, " who could %s." % h.skill, " who had no friends.", " who was never afraid.")
            self.out.append(text)
            if not has_at:
                self.maybe(0.7, "{He} lived in a %s %s." % (self.c("small", "warm", "little", "tidy", "cozy"), h.home) if h.home not in
                           ("tree", "river", "lake", "pond", "forest", "shell") else "{He} lived %s." % at, "{He} lived %s." % at)
        else:
            name = h.name or h.the
            self.out.append(cap("{n} was {a} who lived {at}.".format(n=name, a=an(h.adj + " " + h.kind), at=at)) if h.name else
                            "There was {a} who lived {at}.".format(a=h.full, at=at))
        for _ in range(self.r.choice([0, 1, 1, 2])):
            self.say("Every day {he} {chore}.", "{He} loved to eat %s." % h.food, "{He} could {hskill} better than anyone.",
                     "In the morning {he} {chore}, and in the evening {he} {chore}.", "{He} had {athing}, and {he} took it everywhere.",
                     "All the neighbors knew {him} well.", "{He} was never in a hurry.", "{He} had one dear friend, and they met every day.",
                     "{He} wore a {color} coat, even in the summer.", "At night {he} looked at the stars and made a wish.",
                     "{H} was not rich, but {he} was {glad}.", "What {he} loved most of all was {food}.")

    def ending(self):
        h = self.h
        self.say("{H} was {glad}, and so was {f}." if self.met else "{H} was {glad}.", "{H} went home with a smile.", "{H} went back to {his} %s and slept." % h.home,
                 "From then on, {h} was never {sad} again.", "{H} smiled and said, \"This was a good day.\"")
        if self.r.random() < 0.35:
            self.out.append(self.c("Remember: ", "The lesson is this: ", "") + self.r.choice(MORALS))
        if self.r.random() < 0.75:
            self.say(*ENDS)

    def thanks(self):
        self.say("\"Thank you,\" said {h}. \"You are a true friend.\"", "\"Thank you so much!\" cried {h}.", "{H} thanked {f} again and again.",
                 "\"How can I thank you?\" asked {h}. \"{0}\" said {{f}}.".replace("{0}", self.c("Just be my friend,", "There is no need,", "Come and see me again,", "Share your supper with me,")),
                 "{H} hugged {f} and said, \"I will never forget this.\"")

    # The plots.
    def lost_thing(self):
        self.say("{when} {h} could not find {his} {thing}.", "{when} {h} lost {his} {thing}.", "But {when_} {his} {thing} was gone.".replace("{when_}", "one morning"))
        self.say("{He} looked {s0}, but it was not there.", "First {he} looked {s0}, but there was nothing.", "{He} searched {s0} and found only dust.")
        self.say("Then {he} looked {s1}, but it was not there either.", "Next {he} went to look {s1}.", "{He} looked {s1} too, and still found nothing.")
        self.say("{H} sat down and cried.", "{H} was very {sad}.", "\"Where can it be?\" said {h}.", "\"Oh dear,\" said {h}, \"I will never find it.\"")
        self.br()
        self.meet("Just then {fa} came by.", "Along came {fa}.", "Then {he} met {fa}.", "Soon {fa} came down the path.")
        self.say("\"Why are you so {sad}?\" asked {f}.", "\"What is wrong?\" asked {f}.", "\"Can I help you?\" said {f}.")
        self.say("\"I have lost my {thing},\" said {h}.", "\"My {thing} is gone,\" said {h}. \"I have looked everywhere.\"")
        self.say("\"Let us look together,\" said {f}.", "\"Do not cry,\" said {f}. \"I will help you look.\"", "\"I can {fskill},\" said {f}. \"I will find it for you.\"")
        self.say("They looked for a long time, and at last they found the {noun} {s2}.", "And there, {s2}, lay the {noun}!", "They went together, and the {noun} was {s2}.",
                 "After a while {f} called out, \"Here it is!\" The {noun} was {s2}.")
        self.thanks()

    def lost_way(self):
        self.say("{when} {h} went for a long walk.", "{when} {h} went out to look for {hfood}.", "{when} {h} followed a {color} butterfly into the wood.")
        self.maybe(0.6, "{weather}.", "{weather}, and {h} forgot the time.")
        self.say("Soon {he} did not know the way home.", "When {he} looked back, the path was gone.", "{He} walked and walked, and then {he} was lost.")
        self.say("It grew dark, and {h} was {sad}.", "The night came, and the wind was cold.", "The trees were tall, and every sound was strange.")
        self.say("\"Is anybody there?\" {he} called.", "\"I want to go home,\" said {h}.", "{He} sat down under a tree and waited.")
        self.br()
        self.meet("Then {he} saw a small light. It was {fa} with a lamp.", "After a while {fa} came out of the dark.", "Then {fa} heard {him} and came near.")
        self.say("\"Are you lost?\" asked {f}. \"Do not be afraid. I know the way.\"", "\"Come with me,\" said {f}. \"I will show you the way.\"",
                 "\"I live near here,\" said {f}. \"First you must eat something.\"")
        self.say("They walked over the hill and across the stream.", "They crossed the bridge and went past the old mill.", "On the way they sang a song, and the dark was not so dark anymore.",
                 "{F} gave {him} some {food}, and then they set off together.")
        self.say("At last {h} saw {his} own %s." % self.h.home, "When the sun came up, they were home.", "Soon they saw the lights of home.")
        self.thanks()

    def sharing(self):
        self.say("{when} {h} made some {food}.", "{when} {h} found a basket of {food} {s0}.", "{when} {h} was given a big plate of {food}.")
        self.say("\"This is all for me,\" {he} thought.", "It smelled so good that {he} could not wait.", "{He} sat down to eat.")
        self.meet("Then {fa} knocked at the door.", "Just then {fa} came to the window.", "But {fa} was watching from far away.")
        self.say("\"I am so hungry,\" said {f}. \"May I have a little?\"", "\"Please,\" said {f}, \"I have not eaten for {num} days.\"", "\"What a lovely smell,\" said {f}.")
        self.br()
        if self.c(0, 1):
            self.say("\"No,\" said {h}. \"It is mine.\" So {f} went away.", "\"Go away!\" said {h}, and {f} went away hungry.")
            self.say("But the {food} did not taste good anymore.".replace("{food}", self.food), "Then {h} felt {sad}, and {he} could not eat.", "But it was no fun to eat alone.")
            self.say("So {he} ran after {f} and said, \"I am sorry. Come and eat with me.\"", "{He} ran down the road and called, \"Come back! There is enough for two.\"")
        else:
            self.say("\"Come in,\" said {h}. \"There is enough for two.\"", "{H} thought for a moment. Then {he} said, \"Sit down and eat with me.\"")
        self.say("They ate together, and it tasted better than ever.", "They shared the {food}, and they talked until late.", "So they sat by the fire and ate every crumb.")
        self.say("The next day {f} came back with {athing} as a gift.", "In the winter, when {h} had nothing, {f} brought {him} food.", "After that, {f} came every day, and {h} was never lonely.")

    def wish(self):
        self.say("{when} {h} found {athing} {s0}.", "{when} {h} saw something shining {s0}. It was {athing}.", "{when} an old woman gave {him} {athing}.")
        self.say("It was magic, and it could grant three wishes.", "\"Take care of me,\" said the {noun}, \"and I will give you three wishes.\"", "When {he} touched it, a voice said, \"You may have three wishes.\"")
        self.say("First {he} wished for {food}, and at once there was more than {he} could eat.", "First {he} wished for gold, and soon the room was full of gold.",
                 "First {he} wished for a big house, and there it stood.")
        self.say("Then {he} wished to be able to fly, and {he} flew over the roofs.", "Then {he} wished for fine clothes, and they were all {color}.", "Then {he} wished for snow, and it snowed for {num} days.")
        self.say("But {h} was all alone, and {he} was {sad}.", "But soon nothing was fun anymore.", "But the more {he} had, the more {he} worried.")
        self.br()
        self.meet("One day {fa} came to the door.", "Then {fa} asked, \"What is the last wish?\"", "At last {he} asked {fa} for help.")
        self.say("{H} thought for a long time. Then {he} said, \"I wish for a friend.\"", "\"I wish that everyone had enough,\" said {h}.", "\"For my last wish,\" said {h}, \"I wish that everything were as before.\"")
        self.say("The {noun} shone once more, and then it was only {a}.".replace("{a}", an(self.thing)), "And the wish came true.", "There was a flash of {color} light, and it was done.")
        self.say("{H} and {f} looked at each other and laughed.", "\"That was a good wish,\" said {f}.")

    def race(self):
        self.meet("{when} {h} met {fa} {s0}.", "{when} {fa} came to visit.")
        self.say("\"I can {hskill} better than you,\" said {h}.", "\"I am faster than anyone,\" said {f}.", "\"Let us have a race,\" said {h}.", "\"I never lose,\" said {f}.")
        self.say("So they agreed to race to the old oak.", "So they agreed to run to the river and back.", "All the animals came to watch.", "The winner would get {athing}.")
        self.say("\"One, two, three, go!\" cried {c}.".replace("{c}", "the " + self.c("crow", "owl", "frog", "judge")), "Off they went.")
        self.br()
        self.say("At first {f} was far ahead.", "{F} ran so fast that {fhe} was soon out of sight.", "At the start {h} was behind.")
        self.say("But then {f} stopped to rest under a tree.", "But {f} looked back and laughed, and fell over a stone.", "But {f} was so sure that {fhe} took a nap.")
        self.say("{H} went on, step by step.", "{H} did not stop once.", "{H} saw that {f} was hurt, and stopped to help.")
        self.say("In the end {h} won the race.", "They reached the end together.", "When {f} woke up, {h} was already there.", "So nobody won, but nobody lost either.")
        self.say("\"You did well,\" said {f}. \"I was too proud.\"", "\"Next time I will not sleep,\" said {f}, and everyone laughed.", "\"Well done,\" said {h}. \"Let us be friends.\"")

    def seed(self):
        self.say("{when} {h} found a small seed {s0}.", "{when} {h} bought a seed at the market for one coin.", "{when} the wind brought a little {color} seed.")
        self.say("{He} put it in the earth and gave it water.", "{He} planted it {s1}.", "{He} dug a hole, put the seed in it, and waited.")
        self.meet("\"Nothing will grow there,\" said {fa}.", "{f} came by and laughed. \"That is only a stone,\" {fhe} said.".replace("{f}", cap(self.f.full)))
        self.say("But {h} gave it water every day.", "But {h} did not give up.", "\"We shall see,\" said {h}.")
        self.say("The rain came, and the sun came, and the days went by.", "One week passed, and then another.", "All winter long the seed slept under the snow.")
        self.br()
        self.say("Then one morning there was a tiny green leaf.", "Then, in the spring, a green shoot came up.", "At last something moved in the earth.")
        self.say("It grew and grew until it was taller than the house.", "Soon it had {num} {color} flowers.", "By the summer it was a tree full of apples.", "It grew as high as the roof, and birds came to live in it.")
        self.say("\"I was wrong,\" said {f}. \"It is beautiful.\"", "{F} looked up and could not say a word.", "\"May I have one?\" asked {f}. \"Of course,\" said {h}.")

    def fear(self):
        what = self.c("the dark", "deep water", "thunder", "high places", "the big dog", "the old house on the hill", "strangers", "the wind")
        self.say("But {h} was afraid of %s." % what, "There was only one thing that {h} feared, and that was %s." % what)
        self.say("When the others went out to play, {he} stayed at home.", "Nobody knew about it.", "\"I am not brave,\" {he} said.")
        self.meet("{when} {his} friend, {fa}, was in danger.", "{when} {fa} called for help.")
        self.say("\"Help!\" cried {f}. \"I cannot get out!\"", "\"Please come quickly!\" cried {f}.", "{F} was stuck {s0}, and night was coming.")
        self.br()
        self.say("{H} was very much afraid.", "{H} trembled from head to foot.", "{H} closed {his} eyes and took a deep breath.")
        self.say("But {he} thought of {f}, and {he} went.", "\"I must go,\" {he} said, and {he} ran out of the door.", "Then {he} took one step, and then another.")
        self.say("{He} held on tight and pulled {f} out.", "{He} took {f} by the hand, and they ran home together.".replace("by the hand", "by the hand" if not self.h.animal else "along"), "{He} found {f} and brought {fhim} home.")
        self.say("\"You are the bravest of us all,\" said {f}.", "\"Were you not afraid?\" asked {f}. \"I was,\" said {h}, \"but I came anyway.\"", "After that, %s did not seem so bad." % what)

    def rescue(self):
        self.say("{when} {h} heard a cry {s0}.", "{when} {h} was walking home when {he} heard a voice.", "{when} there was a great storm.")
        self.meet("It was {fa} who had fallen into the river.", "There was {fa} at the bottom of a deep hole.", "There {he} saw {fa} caught in a net.", "High up in a tree sat {fa}, and could not come down.")
        self.say("\"Help me!\" cried {f}.", "\"Please help me,\" said {f}. \"I have been here since the morning.\"", "\"Can anyone hear me?\" cried {f}.")
        self.say("{H} looked around for something to use.", "\"Hold on!\" called {h}. \"I am coming.\"", "{H} did not think twice.")
        self.br()
        self.say("{He} found a long rope and threw it to {f}.", "{He} took a strong branch and held it out.", "{He} ran to fetch a ladder.", "{He} called {his} friends, and they all pulled together.")
        self.say("It was hard work, but at last {f} was free.", "Once, twice, three times they tried, and then {f} was safe.", "Slowly, very slowly, {f} came out.")
        self.thanks()
        self.maybe(0.6, "Some days later {h} was in trouble, and this time {f} came to help.", "Then {f} gave {him} {athing}.", "They dried themselves by the fire and ate {food}.")

    def riddle(self):
        ruler = self.c("king", "queen")
        he = "he" if ruler == "king" else "she"
        self.say("{when} the %s sent word to all the land." % ruler, "Now the %s of that land was {sad}." % ruler, "In that land there was a %s who loved riddles." % ruler)
        q, a = self.c(("What is lighter than a feather, but no one can hold it long?", "Your breath"), ("What has teeth but cannot bite?", "A comb"),
                      ("What runs all day but never gets tired?", "The river"), ("What grows when you take away from it?", "A hole"),
                      ("What is full of holes but holds water?", "A sponge"), ("What goes up when the rain comes down?", "An umbrella"),
                      ("What has one eye but cannot see?", "A needle"), ("What has a neck but no head?", "A bottle"),
                      ("What can fill a room and yet takes no space?", "Light"), ("What belongs to you, but others use it more?", "Your name"))
        self.say("\"Whoever can answer my riddle,\" said the %s, \"shall have {athing} and a bag of gold.\"" % ruler, "\"I will give half of my gold to the one who knows the answer,\" said the %s." % ruler)
        self.say("This was the riddle: \"%s\"" % q, "The %s asked, \"%s\"" % (ruler, q))
        self.say("Many wise men came, but none of them knew.", "All the lords and ladies tried, and all of them failed.", "One said this, and another said that, but they were all wrong.")
        self.br()
        self.say("Then {h} came to the castle.", "At last {h} stepped forward.", "But {h} had been thinking all night.")
        self.say("Everyone laughed at {him}.", "\"You?\" said the guard. \"You are only {k}.\"".replace("{k}", an(self.h.kind)), "The hall was very quiet.")
        self.say("\"%s,\" said {h}." % a, "{H} said, \"%s.\"" % a, "\"I know it,\" said {h}. \"%s.\"" % a)
        self.say("\"That is right!\" cried the %s." % ruler, "The %s clapped and laughed for joy." % ruler, "\"You are wiser than all my wise men,\" said the %s." % ruler)
        self.say("{H} took the gold and shared it with the poor.", "And {h} was given the {noun} and a bag of gold.".replace("{noun}", self.thing), "\"I do not want gold,\" said {h}. \"I only want {food}.\" And the %s laughed." % ruler)

    def honest(self):
        owner = self.c("mother", "father", "grandmother", "uncle", "aunt", "teacher")
        self.say("{when} {h} played in the house and broke {his} %s's {thing}." % owner, "{when} {h} took {his} %s's {thing} without asking, and it broke." % owner)
        self.say("{He} hid the pieces {s0}.", "\"Nobody saw me,\" {he} thought.", "{He} did not know what to do.")
        self.say("In the evening {his} %s asked, \"Where is my {noun}?\"" % owner, "\"Have you seen my {noun}?\" asked {his} %s." % owner)
        self.say("\"I do not know,\" said {h}.", "\"Maybe the cat took it,\" said {h}.", "{H} looked at the floor and said nothing.")
        self.br()
        self.say("But that night {he} could not sleep.", "But {he} felt {sad}, and {his} supper did not taste good.")
        self.meet("\"You must tell the truth,\" said {his} friend, {fa}.", "{He} told it to {fa}, who said, \"Go and say that you are sorry.\"")
        self.say("So {he} went and said, \"I broke it. I am sorry.\"", "In the morning {he} brought the pieces and told the truth.")
        self.say("{His} %s was not angry. \"Thank you for telling me,\" came the answer." % owner, "\"A {noun} can be mended,\" said {his} %s. \"I am glad that you were honest.\"" % owner)
        self.say("Together they mended it, and it was almost as good as new.", "They fixed it with glue, and {h} made a promise to be careful.")

    def gift(self):
        self.meet("{when} it was the birthday of {his} friend, {fa}.", "Soon it would be the birthday of {fa}, {his} best friend.")
        self.say("{H} wanted to give {f} something nice, but {he} had no money.", "\"What shall I give to {f}?\" {h} wondered.", "\"I have only {num} coins,\" said {h}.")
        self.say("At the market there was {athing}, but it cost too much.", "{He} went from shop to shop, but everything cost too much.", "{He} asked the owl what to do, and the owl said, \"Make something.\"")
        self.br()
        self.say("So {he} went home and baked {food}.", "So {he} picked flowers and made a {color} crown.", "So {he} took some wood and made {athing}.", "So {he} made a song and learned it by heart.")
        self.say("{He} worked all night.", "It was not easy, but {he} did not give up.", "It took {num} days.")
        self.say("When the day came, {h} was a little {sad}.", "\"It is only a small thing,\" said {h}.", "The others brought big gifts in {color} paper.")
        self.say("But {f} said, \"This is the best gift of all.\"", "{F} was so {glad} that {fhe} danced around the room.", "\"Did you make this yourself?\" asked {f}. \"I will keep it always.\"")

    def journey(self):
        goal = self.c("the sea", "the top of the mountain", "the end of the rainbow", "the big city", "the moon", "the place where the sun sets", "the oldest tree in the world", "an island far away")
        self.say("{H} had never seen %s." % goal, "More than anything, {h} wanted to see %s." % goal)
        self.say("{when} {he} packed some {food} and {athing} and set off.", "{when} {he} said goodbye and went out into the wide world.")
        self.meet("On the road {he} met {fa}.", "On the second day {he} met {fa} {s0}.")
        self.say("\"Where are you going?\" asked {f}. \"To %s,\" said {h}." % goal, "\"Take me with you,\" said {f}. \"I can {fskill}.\"", "\"It is far,\" said {f}, \"but I will come with you.\"")
        self.br()
        self.say("They went over hills and through valleys.", "They walked for {num} days and {num} nights.", "They slept under the stars and ate {food}.")
        self.say("When they came to a river, {f} found a way across.", "When {h} was tired, {f} told {him} a story.", "Once they met a hungry wolf, but they ran and hid {s1}." if "wolf" not in (self.h.kind, self.f.kind) else "Once it rained so hard that they hid {s1}.")
        self.say("And then they were there.", "At last they came to the end of the road.", "One morning they saw it in front of them.")
        self.say("It was more beautiful than anything in the world.", "\"So this is it,\" said {h}. \"It is bigger than I thought.\"", "They stood there for a long time and said nothing.")
        self.say("\"The best thing,\" said {h}, \"was to travel with you.\"", "Then they went home, and they had much to tell.", "They stayed until the evening, and then they turned home.")

    def trick(self):
        self.meet("{when} {h} met {fa} on the bridge.", "{when} {fa} stood in front of the %s." % self.h.home)
        self.say("\"I am hungry,\" said {f}, \"and I am going to eat your {food}.\"", "\"Give me your {noun},\" said {f}, \"or I will not let you pass.\"")
        self.say("{H} was small, but {he} was not stupid.", "{H} thought quickly.", "\"Wait,\" said {h}. \"I have an idea.\"")
        self.say("\"There is something much better {s0},\" said {h}.", "\"First close your eyes and count to ten,\" said {h}.", "\"You can have it if you can {hskill},\" said {h}.")
        self.br()
        self.say("{F} believed every word.", "{F} did as {he} said.", "\"That is easy,\" said {f}.")
        self.say("So {f} ran there, and fell into the mud.", "While {f} was counting, {h} ran away.", "{F} tried and tried, but {fhe} could not do it.")
        self.say("When {f} saw the trick, {fhe} had to laugh.", "\"You are clever,\" said {f}. \"I will not do it again.\"", "All the others laughed, and {f} was ashamed.")
        self.say("{H} gave {fhim} some {food} after all.", "\"Next time, just ask,\" said {h}.", "Then they sat down on the grass together.")

    PLOTS = [lost_thing, lost_way, sharing, wish, race, seed, fear, rescue, riddle, honest, gift, journey, trick]

    def write(self):
        self.opening()
        self.maybe(0.3, "{weather}.")
        self.r.choice(self.PLOTS)(self)
        self.ending()
        text = ""
        for s in self.out:
            text += s if s == "\n\n" or not text or text.endswith("\n") else " " + s
        return text


def facts(r):
    """A few plain sentences on one animal, or an easy sum."""
    kind, home, food, skill, land = r.choice(ANIMALS)
    homes = "in a %s" % home if home not in ("forest", "river", "lake", "pond", "shell") else "in its shell" if home == "shell" else "in the %s" % home
    s = ["%s is an animal." % cap(an(kind)), "It lives %s." % homes, "It likes to eat %s." % food, "It can %s." % skill,
         "You may meet it %s the %s." % ("on" if land in ("mountain", "farm", "beach") else "in", land)]
    keep = [s[0]] + r.sample(s[1:], r.randint(2, 4))
    return " ".join(keep)


NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen".split()


def question(r):
    """One question and its answer, for the chat form."""
    kind, home, food, skill, land = r.choice(ANIMALS)
    k = r.random()
    if k < 0.2:
        return "What does %s eat?" % an(kind), "%s likes to eat %s." % (cap(an(kind)), food)
    if k < 0.35:
        return "What can %s do?" % an(kind), "%s can %s." % (cap(an(kind)), skill)
    if k < 0.5:
        return "Tell me about the %s." % kind, "%s is an animal. It likes to eat %s. It can %s." % (cap(an(kind)), food, skill)
    if k < 0.7:
        a, b = r.randint(0, 9), r.randint(0, 9)
        return "What is %s plus %s?" % (NUMBERS[a], NUMBERS[b]), "%s plus %s is %s." % (cap(NUMBERS[a]), NUMBERS[b], NUMBERS[a + b])
    if k < 0.85:
        return r.choice(["Hello!", "Hi!", "Good morning!", "Hello, who are you?"]), r.choice(
            ["Hello! I am a very small model, and I like to tell stories.", "Hello! Shall I tell you a story?"])
    return r.choice(["Tell me something wise.", "What did you learn?", "Give me some good advice."]), r.choice(MORALS)


def document(r):
    """Returns (user turn or None, text)."""
    k = r.random()
    if k < 0.72:
        return None, Story(r).write()
    if k < 0.88:
        s = Story(r)
        text = s.write()
        topic = r.choice(["Tell me a story about %s." % an(s.h.kind), "Tell me a story.", "Tell me a story about %s and %s." % (an(s.h.kind), an(s.f.kind)),
                          "Write a short story about %s." % s.h.full])
        if " and " in topic and not s.met:
            topic = "Tell me a story."
        return topic, text
    if k < 0.95:
        return question(r)
    return None, facts(r)


if __name__ == "__main__":
    rng = random.Random(0)
    for _ in range(12):
        user, text = document(rng)
        print("[%s]" % user, text, "\n---", sep="\n")
